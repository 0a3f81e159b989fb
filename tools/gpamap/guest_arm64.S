/* SPDX-License-Identifier: BSD-3-Clause */
/* Guest code that a compiler can't be trusted to write: it works on another stack, or is copied alone; and
 * where the guest goes when it has met a fault. */

	.section guest_text, "ax", @progbits
	.globl	guest_stack_op
	.hidden	guest_stack_op
	.type	guest_stack_op, @function
	.balign	4
/*
 * x0 is the top and x1 the value. The top is a multiple of 8 and no more: the processor is told not to mind.
 * Downwards: a word; three pairs, of which the last has a word in each page if the top is 6 words into one;
 * a word; and in the function that is called a word with the link register, and a pair.
 */
guest_stack_op:
	mov	x9, sp
	mov	x10, x30
	mov	sp, x0
	mov	x0, x1
	str	x1, [sp, #-8]!
	.rept	3
	stp	x1, x1, [sp, #-16]!
	.endr
	str	x1, [sp, #-8]!
	bl	1f
	ldr	x2, [sp], #8
	cmp	x2, x1
	csel	x0, x2, x0, ne
	.rept	3
	ldp	x2, x3, [sp], #16
	cmp	x2, x1
	csel	x0, x2, x0, ne
	cmp	x3, x1
	csel	x0, x3, x0, ne
	.endr
	ldr	x2, [sp], #8
	cmp	x2, x1
	csel	x0, x2, x0, ne
	mov	sp, x9
	mov	x30, x10
	ret
1:	stp	x1, x30, [sp, #-16]!
	stp	x1, x1, [sp, #-16]!
	mov	x30, xzr
	ldp	x2, x3, [sp], #16
	cmp	x2, x1
	csel	x0, x2, x0, ne
	cmp	x3, x1
	csel	x0, x3, x0, ne
	ldp	x2, x30, [sp], #16
	cmp	x2, x1
	csel	x0, x2, x0, ne
	ret
	.size	guest_stack_op, . - guest_stack_op

	/* No fault is expected. Each ends at GVA_DEATH, and the value stored there tells its reason. */
	.globl	guest_vectors
	.hidden	guest_vectors
	.balign	2048
guest_vectors:
	.rept	16
	.balign	128
	b	guest_death
	.endr
	.balign	128
guest_death:
	movz	x0, #0x8000, lsl #16
	movk	x0, #0x1000
	mrs	x1, esr_el1
1:	str	w1, [x0]
	b	1b

	/* No jump in it leaves it. GUEST_BLOB_BEFORE is within the loop. */
	.section .rodata
	.balign	4
	.globl	guest_blob, guest_blob_size
	.hidden	guest_blob, guest_blob_size
guest_blob:
	movz	x1, #0x7c15
	movk	x1, #0x7f4a, lsl #16
	movk	x1, #0x79b9, lsl #32
	movk	x1, #0x9e37, lsl #48
	eor	x0, x0, x1
	mov	x2, #8
1:	ror	x0, x0, #51
	add	x0, x0, x2
	subs	x2, x2, #1
	b.ne	1b
	ret
1:
guest_blob_size:
	.long	1b - guest_blob

	.section .note.GNU-stack, "", @progbits
