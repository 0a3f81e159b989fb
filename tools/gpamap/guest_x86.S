/* SPDX-License-Identifier: BSD-3-Clause */
/* Guest code that a compiler can't be trusted to write: it works on another stack, or is copied alone. */

	.section guest_text, "ax", @progbits
	.globl	guest_stack_op
	.hidden	guest_stack_op
	.type	guest_stack_op, @function
guest_stack_op:
	pushq	%rbx
	movq	%rsp, %rbx
	movq	%rdi, %rsp
	movq	%rsi, %rax
	.rept	8
	pushq	%rsi
	.endr
	call	1f
	.rept	8
	popq	%rdx
	cmpq	%rsi, %rdx
	cmovneq	%rdx, %rax
	.endr
	movq	%rbx, %rsp
	popq	%rbx
	ret
1:	pushq	%rsi
	pushq	%rsi
	popq	%rdx
	popq	%rcx
	cmpq	%rsi, %rdx
	cmovneq	%rdx, %rax
	cmpq	%rsi, %rcx
	cmovneq	%rcx, %rax
	ret
	.size	guest_stack_op, . - guest_stack_op

	/* No jump in it leaves it, so it may be copied anywhere. */
	.section .rodata
	.globl	guest_blob, guest_blob_size
	.hidden	guest_blob, guest_blob_size
guest_blob:
	movq	%rdi, %rax
	movabsq	$0x9e3779b97f4a7c15, %rcx	/* bytes 3 to 12: GUEST_BLOB_BEFORE is within */
	xorq	%rcx, %rax
	movl	$8, %ecx
1:	rolq	$13, %rax
	addq	%rcx, %rax
	decl	%ecx
	jnz	1b
	ret
1:
	.balign	4
guest_blob_size:
	.long	1b - guest_blob

	.section .note.GNU-stack, "", @progbits
