/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The table of KVM's ioctls, one a row; kvm_ioctls.h says what the classes are, HACKING.md how to
 * add one.
 *
 * Sorted by sort of fd, number, direction. Numbers and names are those of Linux 6.1 to 7.2, all
 * architectures. They are written as numbers, since the headers that are installed may be older.
 * The classes were found by reading the kernel, from the named function on.
 */
#include "backend/kvm_ioctls.h"

/* Architectures. */
enum {
	X86 = 1u << 0,
	ARM64 = 1u << 1,
	S390 = 1u << 2,
	PPC = 1u << 3,
	RISCV = 1u << 4,
	MIPS = 1u << 5,
	LOONG = 1u << 6,
	ALL = (1u << 7) - 1,
	NOT_X86 = ALL & ~X86,
	NOT_S390 = ALL & ~S390,

#if defined(__x86_64__) || defined(__i386__)
	HERE = X86,
#elif defined(__aarch64__)
	HERE = ARM64,
#elif defined(__s390x__)
	HERE = S390,
#elif defined(__powerpc__)
	HERE = PPC,
#elif defined(__riscv)
	HERE = RISCV,
#elif defined(__mips__)
	HERE = MIPS,
#elif defined(__loongarch__)
	HERE = LOONG,
#else
	HERE = 0, /* all is unknown, so gated */
#endif
};

/* Directions: none, read, write, both. */
enum { N = 0, R = GM_DIR_READ, W = GM_DIR_WRITE, RW = R | W };

/* Classes. BOTH: serialised, and refused while the map is broken. */
enum { FREE = 0, GATE = GM_IOCTL_GATE, SLOTS = GM_IOCTL_SLOTS, BOTH = GATE | SLOTS };

#define ROW(nr, dir, arch, how, name, function, reason)              \
	{                                                            \
		"KVM_" #name, #function, reason, nr, dir, arch, how, \
	}

/* clang-format off */

/* /dev/kvm. All free: there is no VM yet. So the library has no wrapper for them. */
static const struct gm_kvm_ioctl of_system[] = {
	ROW(0x00, N, ALL, FREE, GET_API_VERSION, kvm_dev_ioctl, "a constant"),
	ROW(0x01, N, ALL, FREE, CREATE_VM, kvm_dev_ioctl_create_vm, "a VM without slots"),
	ROW(0x02, RW, X86, FREE, GET_MSR_INDEX_LIST, kvm_arch_dev_ioctl, "a list"),
	ROW(0x03, N, ALL, FREE, CHECK_EXTENSION, kvm_vm_ioctl_check_extension_generic, "a number"),
	ROW(0x04, N, ALL, FREE, GET_VCPU_MMAP_SIZE, kvm_dev_ioctl, "a number"),
	ROW(0x05, RW, X86, FREE, GET_SUPPORTED_CPUID, kvm_dev_ioctl_get_cpuid, "a list"),
	ROW(0x06, N, S390, FREE, S390_ENABLE_SIE, s390_enable_sie, "about the process"),
	ROW(0x09, RW, X86, FREE, GET_EMULATED_CPUID, kvm_dev_ioctl_get_cpuid, "a list"),
	ROW(0x0a, RW, X86, FREE, GET_MSR_FEATURE_INDEX_LIST, kvm_arch_dev_ioctl, "a list"),
	ROW(0x88, RW, X86, FREE, GET_MSRS, msr_io, "features of the host"),
	ROW(0x9d, R, X86, FREE, X86_GET_MCE_CAP_SUPPORTED, kvm_arch_dev_ioctl, "a number"),
	ROW(0xc1, RW, X86, FREE, GET_SUPPORTED_HV_CPUID,
	    kvm_ioctl_get_supported_hv_cpuid, "a list"),
	ROW(0xe2, W, X86, FREE, GET_DEVICE_ATTR, kvm_x86_dev_get_attr, "features of the host"),
	ROW(0xe3, W, X86, FREE, HAS_DEVICE_ATTR, kvm_x86_dev_has_attr, "features of the host"),
};

static const struct gm_kvm_ioctl of_vm[] = {
	ROW(0x03, N, ALL, FREE, CHECK_EXTENSION, kvm_vm_ioctl_check_extension_generic, "a number"),
	ROW(0x40, W, ALL, GATE, SET_MEMORY_REGION, kvm_arch_vm_ioctl, "in old headers only"),
	ROW(0x41, N, ALL, SLOTS, CREATE_VCPU,
	    kvm_vm_ioctl_create_vcpu, "x86: may make slots of KVM's own"),
	ROW(0x42, W, ALL, SLOTS, GET_DIRTY_LOG,
	    kvm_vm_ioctl_get_dirty_log, "looks up a slot by its id"),
	ROW(0x43, W, ALL, GATE, SET_MEMORY_ALIAS, kvm_arch_vm_ioctl, "in old headers only"),
	ROW(0x44, N, X86, FREE, SET_NR_MMU_PAGES,
	    kvm_vm_ioctl_set_nr_mmu_pages, "drops shadow pages"),
	ROW(0x45, N, X86, FREE, GET_NR_MMU_PAGES,
	    kvm_vm_ioctl_get_nr_mmu_pages, "a number; gone by now"),
	ROW(0x46, W, ALL, SLOTS, SET_USER_MEMORY_REGION,
	    kvm_vm_ioctl_set_memory_region, "changes a slot"),
	ROW(0x47, N, X86, SLOTS, SET_TSS_ADDR, vmx_set_tss_addr, "makes a slot of KVM's own"),
	ROW(0x48, W, X86, SLOTS, SET_IDENTITY_MAP_ADDR,
	    vmx_set_identity_map_addr, "where a slot of KVM's own will be"),
	ROW(0x49, W, ALL, SLOTS, SET_USER_MEMORY_REGION2,
	    kvm_vm_ioctl_set_memory_region, "changes a slot"),
	ROW(0x53, RW, S390, GATE, S390_KEYOP, kvm_s390_keyop, "storage keys"),
	ROW(0x60, N, ALL, FREE, CREATE_IRQCHIP, kvm_arch_vm_ioctl, "devices outside of memory"),
	ROW(0x61, W, ALL, GATE, IRQ_LINE,
	    kvm_vm_ioctl_irq_line, "Xen events and adapters are bits in memory"),
	ROW(0x62, RW, X86, FREE, GET_IRQCHIP, kvm_vm_ioctl_get_irqchip, "registers"),
	ROW(0x63, R, X86, FREE, SET_IRQCHIP, kvm_vm_ioctl_set_irqchip, "registers"),
	ROW(0x64, N, X86, FREE, CREATE_PIT, kvm_create_pit, "a device outside of memory"),
	ROW(0x65, RW, X86, FREE, GET_PIT, kvm_vm_ioctl_get_pit, "registers"),
	ROW(0x66, R, X86, FREE, SET_PIT, kvm_vm_ioctl_set_pit, "registers"),
	ROW(0x67, W, ALL, FREE, REGISTER_COALESCED_MMIO,
	    kvm_vm_ioctl_register_coalesced_mmio, "where no memory is"),
	ROW(0x67, RW, ALL, GATE, IRQ_LINE_STATUS, kvm_vm_ioctl_irq_line, "as KVM_IRQ_LINE"),
	ROW(0x68, W, ALL, FREE, UNREGISTER_COALESCED_MMIO,
	    kvm_vm_ioctl_unregister_coalesced_mmio, "where no memory is"),
	ROW(0x69, R, ALL, GATE, ASSIGN_PCI_DEVICE, kvm_arch_vm_ioctl, "in old headers only"),
	ROW(0x6a, W, NOT_S390, FREE, SET_GSI_ROUTING, kvm_set_irq_routing, "a table of KVM's"),
	ROW(0x6a, W, S390, GATE, SET_GSI_ROUTING,
	    kvm_set_routing_entry, "takes addresses of indicators"),
	ROW(0x70, W, ALL, GATE, ASSIGN_DEV_IRQ, kvm_arch_vm_ioctl, "in old headers only"),
	ROW(0x71, N, X86, FREE, REINJECT_CONTROL, kvm_vm_ioctl_reinject, "a flag"),
	ROW(0x72, W, ALL, GATE, DEASSIGN_PCI_DEVICE, kvm_arch_vm_ioctl, "in old headers only"),
	ROW(0x73, W, ALL, GATE, ASSIGN_SET_MSIX_NR, kvm_arch_vm_ioctl, "in old headers only"),
	ROW(0x74, W, ALL, GATE, ASSIGN_SET_MSIX_ENTRY, kvm_arch_vm_ioctl, "in old headers only"),
	ROW(0x75, W, ALL, GATE, DEASSIGN_DEV_IRQ, kvm_arch_vm_ioctl, "in old headers only"),
	ROW(0x76, W, ALL, FREE, IRQFD, kvm_irqfd, "sets it up; no interrupt yet"),
	ROW(0x77, W, X86, FREE, CREATE_PIT2, kvm_create_pit, "a device outside of memory"),
	ROW(0x78, N, X86, FREE, SET_BOOT_CPU_ID, kvm_arch_vm_ioctl, "a number"),
	ROW(0x79, W, ALL, FREE, IOEVENTFD, kvm_ioeventfd, "where no memory is"),
	ROW(0x7a, W, X86, FREE, XEN_HVM_CONFIG,
	    kvm_xen_hvm_config, "flags; pages come with an MSR"),
	ROW(0x7b, W, X86, FREE, SET_CLOCK, kvm_vm_ioctl_set_clock, "vCPUs store it when they run"),
	ROW(0x7c, R, X86, FREE, GET_CLOCK, kvm_vm_ioctl_get_clock, "a number"),
	ROW(0x94, W, S390, GATE, S390_INTERRUPT, kvm_s390_inject_vm, "not looked at closely"),
	ROW(0x9f, R, X86, FREE, GET_PIT2, kvm_vm_ioctl_get_pit2, "registers"),
	ROW(0xa0, W, X86, FREE, SET_PIT2, kvm_vm_ioctl_set_pit2, "registers"),
	ROW(0xa1, W, PPC, FREE, PPC_GET_PVINFO, kvm_vm_ioctl_get_pvinfo, "instructions"),
	ROW(0xa2, N, X86, FREE, SET_TSC_KHZ, kvm_arch_vm_ioctl, "a number"),
	ROW(0xa3, N, X86, FREE, GET_TSC_KHZ, kvm_arch_vm_ioctl, "a number"),
	ROW(0xa3, W, ALL, GATE, ENABLE_CAP,
	    kvm_vm_ioctl_enable_cap_generic, "another thing for each capability"),
	ROW(0xa4, W, ALL, GATE, ASSIGN_SET_INTX_MASK, kvm_arch_vm_ioctl, "in old headers only"),
	ROW(0xa5, W, X86, FREE, SIGNAL_MSI, kvm_send_userspace_msi, "sets a bit of a local APIC"),
	ROW(0xa5, W, NOT_X86, GATE, SIGNAL_MSI,
	    kvm_send_userspace_msi, "arm64: tables of the ITS; others not looked at"),
	ROW(0xa6, R, PPC, FREE, PPC_GET_SMMU_INFO, kvm_arch_vm_ioctl, "features"),
	ROW(0xa7, RW, PPC, GATE, PPC_ALLOCATE_HTAB,
	    kvmppc_alloc_reset_hpt, "not looked at closely"),
	ROW(0xa8, W, PPC, FREE, CREATE_SPAPR_TCE,
	    kvm_vm_ioctl_create_spapr_tce, "a table of KVM's"),
	ROW(0xa8, W, PPC, FREE, CREATE_SPAPR_TCE_64,
	    kvm_vm_ioctl_create_spapr_tce, "a table of KVM's"),
	ROW(0xa9, R, PPC, GATE, ALLOCATE_RMA, kvm_arch_vm_ioctl, "in old headers only"),
	ROW(0xaa, W, PPC, FREE, PPC_GET_HTAB_FD, kvm_vm_ioctl_get_htab_fd, "an fd"),
	ROW(0xab, W, ARM64, FREE, ARM_SET_DEVICE_ADDR,
	    kvm_set_legacy_vgic_v2_addr, "where no memory is"),
	ROW(0xac, W, PPC, FREE, PPC_RTAS_DEFINE_TOKEN, kvm_vm_ioctl_rtas_define_token, "a number"),
	ROW(0xad, R, PPC, GATE, PPC_RESIZE_HPT_PREPARE,
	    kvm_vm_ioctl_resize_hpt_prepare, "not looked at closely"),
	ROW(0xae, R, PPC, GATE, PPC_RESIZE_HPT_COMMIT,
	    kvm_vm_ioctl_resize_hpt_commit, "looks at slots"),
	ROW(0xaf, R, ARM64, FREE, ARM_PREFERRED_TARGET, kvm_arch_vm_ioctl, "a number"),
	ROW(0xaf, W, PPC, GATE, PPC_CONFIGURE_V3_MMU, kvmhv_configure_mmu, "the guest's tables"),
	ROW(0xb0, W, PPC, FREE, PPC_GET_RMMU_INFO, kvmhv_get_rmmu_info, "features"),
	ROW(0xb1, R, PPC, FREE, PPC_GET_CPU_CHAR, kvmppc_get_cpu_char, "features"),
	ROW(0xb1, W, S390, GATE, S390_MEM_OP, kvm_s390_vm_mem_op, "reads and writes memory"),
	ROW(0xb2, W, X86, FREE, SET_PMU_EVENT_FILTER,
	    kvm_vm_ioctl_set_pmu_event_filter, "a table of KVM's"),
	ROW(0xb2, W, S390, GATE, S390_GET_SKEYS, kvm_s390_get_skeys, "storage keys"),
	ROW(0xb3, N, PPC, BOTH, PPC_SVM_OFF, kvmhv_svm_off, "goes over all slots and pages"),
	ROW(0xb3, W, S390, GATE, S390_SET_SKEYS, kvm_s390_set_skeys, "storage keys"),
	ROW(0xb4, R, ARM64, GATE, ARM_MTE_COPY_TAGS, kvm_vm_ioctl_mte_copy_tags, "tags of memory"),
	ROW(0xb5, W, ARM64, FREE, ARM_SET_COUNTER_OFFSET,
	    kvm_vm_ioctl_set_counter_offset, "a number"),
	ROW(0xb6, R, ARM64, FREE, ARM_GET_REG_WRITABLE_MASKS,
	    kvm_vm_ioctl_get_reg_writable_masks, "features"),
	ROW(0xb8, RW, S390, BOTH, S390_GET_CMMA_BITS,
	    kvm_s390_get_cmma_bits, "state of pages, slot by slot"),
	ROW(0xb9, W, S390, BOTH, S390_SET_CMMA_BITS,
	    kvm_s390_set_cmma_bits, "state of pages, slot by slot"),
	ROW(0xba, RW, X86, GATE, MEMORY_ENCRYPT_OP,
	    sev_mem_enc_ioctl, "encrypts and measures memory"),
	ROW(0xbb, R, X86, FREE, MEMORY_ENCRYPT_REG_REGION,
	    sev_mem_enc_register_region, "pins pages by host address"),
	ROW(0xbc, R, X86, FREE, MEMORY_ENCRYPT_UNREG_REGION,
	    sev_mem_enc_unregister_region, "pins pages by host address"),
	ROW(0xbd, W, X86, FREE, HYPERV_EVENTFD, kvm_vm_ioctl_hv_eventfd, "a table of KVM's"),
	ROW(0xc0, RW, ALL, SLOTS, CLEAR_DIRTY_LOG,
	    kvm_vm_ioctl_clear_dirty_log, "looks up a slot by its id"),
	ROW(0xc5, RW, S390, GATE, S390_PV_COMMAND, kvm_s390_handle_pv, "encrypts memory"),
	ROW(0xc6, W, X86, FREE, X86_SET_MSR_FILTER,
	    kvm_vm_ioctl_set_msr_filter, "a table of KVM's"),
	ROW(0xc7, N, ALL, SLOTS, RESET_DIRTY_RINGS,
	    kvm_vm_ioctl_reset_dirty_pages, "entries name slots by their ids"),
	ROW(0xc8, RW, X86, FREE, XEN_HVM_GET_ATTR, kvm_xen_hvm_get_attr, "numbers"),
	ROW(0xc9, W, X86, GATE, XEN_HVM_SET_ATTR,
	    kvm_xen_hvm_set_attr, "looks up and writes the shared page"),
	ROW(0xce, N, ALL, FREE, GET_STATS_FD, kvm_vm_ioctl_get_stats_fd, "an fd"),
	ROW(0xd0, W, X86, GATE, XEN_HVM_EVTCHN_SEND,
	    kvm_xen_hvm_evtchn_send, "the event is a bit in memory"),
	ROW(0xd1, W, S390, GATE, S390_ZPCI_OP, kvm_s390_pci_zpci_op, "pins pages for interrupts"),
	ROW(0xd2, W, ALL, SLOTS, SET_MEMORY_ATTRIBUTES,
	    kvm_vm_ioctl_set_mem_attributes, "goes over slots"),
	ROW(0xd4, RW, ALL, FREE, CREATE_GUEST_MEMFD,
	    kvm_gmem_create, "memory that is in no slot yet"),
	ROW(0xe0, RW, ALL, FREE, CREATE_DEVICE, kvm_ioctl_create_device, "an fd"),
	ROW(0xe1, W, ARM64, FREE, SET_DEVICE_ATTR, kvm_vm_set_attr, "a filter of calls"),
	ROW(0xe1, W, S390, BOTH, SET_DEVICE_ATTR,
	    kvm_s390_vm_set_attr, "migration mode goes over all slots"),
	ROW(0xe2, W, S390, FREE, GET_DEVICE_ATTR, kvm_s390_vm_get_attr, "features"),
	ROW(0xe3, W, ARM64 | S390 | LOONG, FREE, HAS_DEVICE_ATTR, kvm_arch_vm_ioctl, "features"),
};

static const struct gm_kvm_ioctl of_vcpu[] = {
	ROW(0x50, W, S390, GATE, S390_UCAS_MAP, kvm_arch_vcpu_ioctl, "maps memory"),
	ROW(0x51, W, S390, GATE, S390_UCAS_UNMAP, kvm_arch_vcpu_ioctl, "unmaps memory"),
	ROW(0x52, W, S390, GATE, S390_VCPU_FAULT, kvm_arch_vcpu_ioctl, "faults memory in"),
	ROW(0x80, N, ALL, GATE, RUN, kvm_arch_vcpu_ioctl_run, "runs the guest"),
	ROW(0x81, R, ALL, FREE, GET_REGS, kvm_arch_vcpu_ioctl_get_regs, "registers"),
	ROW(0x82, W, ALL, FREE, SET_REGS, kvm_arch_vcpu_ioctl_set_regs, "registers"),
	ROW(0x83, R, ALL, FREE, GET_SREGS, kvm_arch_vcpu_ioctl_get_sregs, "registers"),
	ROW(0x84, W, ALL, GATE, SET_SREGS,
	    kvm_arch_vcpu_ioctl_set_sregs, "x86: loads the PDPTEs from memory"),
	ROW(0x85, RW, ALL, GATE, TRANSLATE,
	    kvm_arch_vcpu_ioctl_translate, "walks the guest's page tables"),
	ROW(0x86, W, ALL, FREE, INTERRUPT, kvm_vcpu_ioctl_interrupt, "sets a bit of the vCPU"),
	ROW(0x88, RW, X86, GATE, GET_MSRS, msr_io, "not looked at MSR by MSR"),
	ROW(0x89, W, X86, GATE, SET_MSRS, msr_io, "kvmclock, steal time, Hyper-V pages"),
	ROW(0x8a, W, X86, FREE, SET_CPUID, kvm_vcpu_ioctl_set_cpuid, "a table of KVM's"),
	ROW(0x8b, W, ALL, FREE, SET_SIGNAL_MASK,
	    kvm_vcpu_ioctl_set_sigmask, "signals; refused if it blocks the kick"),
	ROW(0x8c, R, ALL, FREE, GET_FPU, kvm_arch_vcpu_ioctl_get_fpu, "registers"),
	ROW(0x8d, W, ALL, FREE, SET_FPU, kvm_arch_vcpu_ioctl_set_fpu, "registers"),
	ROW(0x8e, R, X86, FREE, GET_LAPIC, kvm_vcpu_ioctl_get_lapic, "registers"),
	ROW(0x8f, W, X86, GATE, SET_LAPIC,
	    kvm_vcpu_ioctl_set_lapic, "unsure: the APIC page is a slot"),
	ROW(0x90, W, X86, FREE, SET_CPUID2, kvm_vcpu_ioctl_set_cpuid2, "a table of KVM's"),
	ROW(0x91, RW, X86, FREE, GET_CPUID2, kvm_vcpu_ioctl_get_cpuid2, "a table of KVM's"),
	ROW(0x92, RW, X86, FREE, TPR_ACCESS_REPORTING, vcpu_ioctl_tpr_access_reporting, "a flag"),
	ROW(0x93, W, X86, GATE, SET_VAPIC_ADDR,
	    kvm_lapic_set_vapic_addr, "looks up a slot by address"),
	ROW(0x94, W, S390, GATE, S390_INTERRUPT, kvm_s390_inject_vcpu, "not looked at closely"),
	ROW(0x95, W, S390, GATE, S390_STORE_STATUS,
	    kvm_s390_store_status_unloaded, "writes memory"),
	ROW(0x96, W, S390, FREE, S390_SET_INITIAL_PSW,
	    kvm_arch_vcpu_ioctl_set_initial_psw, "a register"),
	ROW(0x97, N, S390, GATE, S390_INITIAL_RESET,
	    kvm_arch_vcpu_ioctl_initial_reset, "not looked at closely"),
	ROW(0x98, R, ALL, GATE, GET_MP_STATE,
	    kvm_arch_vcpu_ioctl_get_mpstate, "x86: INIT may leave a nested guest"),
	ROW(0x99, W, ALL, GATE, SET_MP_STATE,
	    kvm_arch_vcpu_ioctl_set_mpstate, "not the same in all kernels"),
	ROW(0x9a, N, X86, FREE, NMI, kvm_vcpu_ioctl_nmi, "sets a bit of the vCPU"),
	ROW(0x9b, W, NOT_S390, FREE, SET_GUEST_DEBUG,
	    kvm_arch_vcpu_ioctl_set_guest_debug, "registers"),
	ROW(0x9b, W, S390, GATE, SET_GUEST_DEBUG,
	    kvm_s390_import_bp_data, "reads what is to be watched"),
	ROW(0x9c, W, X86, FREE, X86_SETUP_MCE, kvm_vcpu_ioctl_x86_setup_mce, "registers"),
	ROW(0x9e, W, X86, FREE, X86_SET_MCE, kvm_vcpu_ioctl_x86_set_mce, "registers"),
	ROW(0x9f, R, X86 | ARM64, FREE, GET_VCPU_EVENTS, kvm_arch_vcpu_ioctl, "what is pending"),
	ROW(0xa0, W, X86 | ARM64, GATE, SET_VCPU_EVENTS,
	    kvm_arch_vcpu_ioctl, "x86: may leave a nested guest"),
	ROW(0xa1, R, X86, FREE, GET_DEBUGREGS, kvm_vcpu_ioctl_x86_get_debugregs, "registers"),
	ROW(0xa2, N, X86, FREE, SET_TSC_KHZ, kvm_set_tsc_khz, "a number"),
	ROW(0xa2, W, X86, FREE, SET_DEBUGREGS, kvm_vcpu_ioctl_x86_set_debugregs, "registers"),
	ROW(0xa3, N, X86, FREE, GET_TSC_KHZ, kvm_arch_vcpu_ioctl, "a number"),
	ROW(0xa3, W, ALL, GATE, ENABLE_CAP,
	    kvm_vcpu_ioctl_enable_cap, "another thing for each capability"),
	ROW(0xa4, R, X86, FREE, GET_XSAVE, kvm_vcpu_ioctl_x86_get_xsave, "registers"),
	ROW(0xa5, W, X86, FREE, SET_XSAVE, kvm_vcpu_ioctl_x86_set_xsave, "registers"),
	ROW(0xa6, R, X86, FREE, GET_XCRS, kvm_vcpu_ioctl_x86_get_xcrs, "registers"),
	ROW(0xa7, W, X86, FREE, SET_XCRS, kvm_vcpu_ioctl_x86_set_xcrs, "registers"),
	ROW(0xaa, W, PPC, GATE, DIRTY_TLB, kvm_vcpu_ioctl_dirty_tlb, "not looked at closely"),
	ROW(0xab, W, ALL, GATE, GET_ONE_REG,
	    kvm_arch_vcpu_ioctl, "x86: MSRs; others register by register"),
	ROW(0xac, W, ALL, GATE, SET_ONE_REG,
	    kvm_arch_vcpu_ioctl, "x86: MSRs; others register by register"),
	ROW(0xad, N, X86, FREE, KVMCLOCK_CTRL, kvm_set_guest_paused, "stored when the vCPU runs"),
	ROW(0xae, W, ARM64, GATE, ARM_VCPU_INIT,
	    kvm_arch_vcpu_ioctl_vcpu_init, "unmaps all slots if it has run"),
	ROW(0xb0, RW, ALL, FREE, GET_REG_LIST, kvm_arch_vcpu_ioctl, "a list"),
	ROW(0xb1, W, S390, GATE, S390_MEM_OP, kvm_s390_vcpu_memsida_op, "reads and writes memory"),
	ROW(0xb4, W, S390, GATE, S390_IRQ, kvm_s390_inject_vcpu, "not looked at closely"),
	ROW(0xb5, W, S390, GATE, S390_SET_IRQ_STATE,
	    kvm_s390_set_irq_state, "not looked at closely"),
	ROW(0xb6, W, S390, GATE, S390_GET_IRQ_STATE,
	    kvm_s390_get_irq_state, "not looked at closely"),
	ROW(0xb7, N, X86, FREE, SMI, kvm_inject_smi, "sets a bit of the vCPU"),
	ROW(0xba, RW, X86, GATE, MEMORY_ENCRYPT_OP, tdx_vcpu_ioctl, "encrypts and measures memory"),
	ROW(0xbe, RW, X86, GATE, GET_NESTED_STATE,
	    vmx_get_nested_state, "an enlightened VMCS is in memory"),
	ROW(0xbf, W, X86, GATE, SET_NESTED_STATE,
	    vmx_set_nested_state, "pages of the nested guest"),
	ROW(0xc1, RW, X86, FREE, GET_SUPPORTED_HV_CPUID,
	    kvm_ioctl_get_supported_hv_cpuid, "a list"),
	ROW(0xc2, W, ARM64, FREE, ARM_VCPU_FINALIZE, kvm_arm_vcpu_finalize, "room for registers"),
	ROW(0xc3, N, S390, GATE, S390_NORMAL_RESET,
	    kvm_arch_vcpu_ioctl_normal_reset, "not looked at closely"),
	ROW(0xc4, N, S390, GATE, S390_CLEAR_RESET,
	    kvm_arch_vcpu_ioctl_clear_reset, "not looked at closely"),
	ROW(0xca, RW, X86, GATE, XEN_VCPU_GET_ATTR, kvm_xen_vcpu_get_attr, "may inject a timer's event"),
	ROW(0xcb, W, X86, GATE, XEN_VCPU_SET_ATTR,
	    kvm_xen_vcpu_set_attr, "looks up and writes pages"),
	ROW(0xcc, R, X86, GATE, GET_SREGS2,
	    kvm_vcpu_ioctl_x86_get_sregs2, "may load the PDPTEs from memory"),
	ROW(0xcd, W, X86, GATE, SET_SREGS2,
	    kvm_vcpu_ioctl_x86_set_sregs2, "may load the PDPTEs from memory"),
	ROW(0xce, N, ALL, FREE, GET_STATS_FD, kvm_vcpu_ioctl_get_stats_fd, "an fd"),
	ROW(0xcf, R, X86, FREE, GET_XSAVE2, kvm_vcpu_ioctl_x86_get_xsave2, "registers"),
	ROW(0xd0, RW, S390, GATE, S390_PV_CPU_COMMAND,
	    kvm_s390_handle_pv_vcpu_dump, "reads memory"),
	ROW(0xd5, RW, ALL, GATE, PRE_FAULT_MEMORY,
	    kvm_vcpu_pre_fault_memory, "maps pages of slots"),
	ROW(0xe1, W, X86, FREE, SET_DEVICE_ATTR,
	    kvm_vcpu_ioctl_device_attr, "a number: the TSC's offset"),
	ROW(0xe1, W, ARM64 | LOONG, GATE, SET_DEVICE_ATTR,
	    kvm_arch_vcpu_ioctl, "steal time: looks up a slot"),
	ROW(0xe2, W, X86 | ARM64 | LOONG, FREE, GET_DEVICE_ATTR, kvm_arch_vcpu_ioctl, "numbers"),
	ROW(0xe3, W, X86 | ARM64 | LOONG, FREE, HAS_DEVICE_ATTR, kvm_arch_vcpu_ioctl, "features"),
};

/* From KVM_CREATE_DEVICE. An fd from KVM_CREATE_GUEST_MEMFD has none. */
static const struct gm_kvm_ioctl of_device[] = {
	ROW(0xe1, W, ALL, GATE, SET_DEVICE_ATTR,
	    kvm_device_ioctl_attr, "arm64: GIC and ITS tables are in memory"),
	ROW(0xe2, W, ALL, GATE, GET_DEVICE_ATTR,
	    kvm_device_ioctl_attr, "not looked at device by device"),
	ROW(0xe3, W, ALL, FREE, HAS_DEVICE_ATTR, kvm_device_ioctl_attr, "features"),
};

#define ROWS(table) {table, sizeof(table) / sizeof((table)[0])}

/* clang-format on */

static const struct {
	const struct gm_kvm_ioctl *rows;
	size_t n;
} tables[] = {
	[GM_FD_SYSTEM] = ROWS(of_system),
	[GM_FD_VM] = ROWS(of_vm),
	[GM_FD_VCPU] = ROWS(of_vcpu),
	[GM_FD_DEVICE] = ROWS(of_device),
};

const struct gm_kvm_ioctl *gm_kvm_ioctls(enum gm_fd_kind kind, size_t *n)
{
	*n = tables[kind].n;
	return tables[kind].rows;
}

bool gm_kvm_ioctl_is_here(const struct gm_kvm_ioctl *row)
{
	return row->arch & HERE;
}
