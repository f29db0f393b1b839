//! Finding Xen through CPUID.

use core::arch::x86_64::{__cpuid_count, CpuidResult};

use xen_proto::hypervisor::DomainId;

use crate::hypercall::Instruction;

/// First leaf at which a hypervisor may describe itself (`arch-x86/cpuid.h`).
const FIRST_BASE: u32 = 0x4000_0000;
/// Last one that is looked at. Xen moves up by [`BASE_STEP`] when it also poses as Hyper-V.
const LAST_BASE: u32 = 0x4001_0000;
const BASE_STEP: u32 = 0x100;
/// `XEN_HVM_CPUID_DOMID_PRESENT`: ECX of leaf 4 holds this domain's number.
const DOMAIN_ID_PRESENT: u32 = 1 << 4;
/// EAX of leaf 3: `rdtsc` is a trip into the hypervisor.
const COUNTER_EMULATED: u32 = 1 << 0;

/// Xen, as CPUID describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Detected {
    /// First of Xen's CPUID leaves.
    pub base: u32,
    /// Major version.
    pub major: u16,
    /// Minor version.
    pub minor: u16,
    /// This domain's number, where Xen tells it.
    pub domain: Option<DomainId>,
    /// Whether reading the time stamp counter, and so the clock, is slow: Xen emulates it unless
    /// the host's is known to be steady or the domain has `tsc_mode="native"`.
    pub clock_is_emulated: bool,
    pub(crate) processor: Processor,
    /// The model-specific register that has Xen fill in a hypercall page.
    pub(crate) hypercall_register: u32,
}

/// Who made the processor, as far as it matters for hypercalls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Processor {
    /// `vmcall`.
    Intel,
    /// `vmmcall`.
    Amd,
    /// A vendor string this program does not know, or one that was masked.
    Unknown,
}

/// Looks for Xen. Any other machine, or none at all below, gives `None`.
#[must_use]
pub fn detect() -> Option<Detected> {
    find(__cpuid_count)
}

/// [`detect`] over any source of CPUID leaves: `leaf(number, subleaf)`.
fn find(leaf: impl Fn(u32, u32) -> CpuidResult) -> Option<Detected> {
    let base = (FIRST_BASE..=LAST_BASE)
        .step_by(BASE_STEP as usize)
        .find(|&base| is_xen(base, leaf(base, 0)))?;
    let version = leaf(base + 1, 0).eax;
    let hypercalls = leaf(base + 2, 0);
    let last = leaf(base, 0).eax;
    let time = (last >= base + 3).then(|| leaf(base + 3, 0));
    let domain = (last >= base + 4)
        .then(|| leaf(base + 4, 0))
        .filter(|features| features.eax & DOMAIN_ID_PRESENT != 0)
        .and_then(|features| u16::try_from(features.ecx).ok())
        .map(DomainId);
    Some(Detected {
        base,
        major: (version >> 16) as u16,
        minor: version as u16,
        domain,
        clock_is_emulated: time.is_some_and(|time| time.eax & COUNTER_EMULATED != 0),
        processor: vendor(leaf(0, 0)),
        hypercall_register: hypercalls.ebx,
    })
}

/// The signature "XenVMMXenVMM" at `base`, and leaves enough for version and hypercalls.
fn is_xen(base: u32, registers: CpuidResult) -> bool {
    text([registers.ebx, registers.ecx, registers.edx]) == *b"XenVMMXenVMM"
        && (2..BASE_STEP).contains(&registers.eax.wrapping_sub(base))
}

/// The vendor string of leaf 0. Feature bits say less: hypervisors mask the one for SVM.
fn vendor(registers: CpuidResult) -> Processor {
    match &text([registers.ebx, registers.edx, registers.ecx]) {
        b"AuthenticAMD" | b"HygonGenuine" => Processor::Amd,
        b"GenuineIntel" | b"CentaurHauls" | b"  Shanghai  " => Processor::Intel,
        _ => Processor::Unknown,
    }
}

fn text(registers: [u32; 3]) -> [u8; 12] {
    let mut text = [0; 12];
    for (bytes, register) in text.chunks_exact_mut(4).zip(registers) {
        bytes.copy_from_slice(&register.to_le_bytes());
    }
    text
}

/// Reads the hypercall instruction out of the first entry of a hypercall page that Xen filled:
/// what it would have us execute is right whatever CPUID says.
pub(crate) fn instruction_in_hypercall_page(entry: &[u8; 32]) -> Option<Instruction> {
    entry.windows(3).find_map(|bytes| match bytes {
        [0x0f, 0x01, 0xc1] => Some(Instruction::Vmcall),
        [0x0f, 0x01, 0xd9] => Some(Instruction::Vmmcall),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const XEN: [u32; 3] = [0x566e_6558, 0x6558_4d4d, 0x4d4d_566e];

    fn result(eax: u32, ebx: u32, ecx: u32, edx: u32) -> CpuidResult {
        CpuidResult { eax, ebx, ecx, edx }
    }

    /// A Xen 4.17 whose leaves start at `base`, on an AMD processor, as domain 7.
    fn machine(base: u32) -> impl Fn(u32, u32) -> CpuidResult {
        move |leaf, _| match leaf {
            0 => result(0xd, 0x6874_7541, 0x444d_4163, 0x6974_6e65),
            FIRST_BASE if base != FIRST_BASE => {
                // "Microsoft Hv"
                result(0x4000_0006, 0x7263_694d, 0x666f_736f, 0x7648_2074)
            }
            _ if leaf == base => result(base + 4, XEN[0], XEN[1], XEN[2]),
            _ if leaf == base + 1 => result(0x0004_0011, 0, 0, 0),
            _ if leaf == base + 2 => result(1, 0x4000_0000, 0, 0),
            _ if leaf == base + 3 => result(COUNTER_EMULATED | 1 << 2, 0, 0, 0),
            _ if leaf == base + 4 => result(DOMAIN_ID_PRESENT, 0, 7, 0),
            _ => result(0, 0, 0, 0),
        }
    }

    #[test]
    fn xen_is_found_where_it_says() {
        for base in [0x4000_0000, 0x4000_0100, 0x4001_0000] {
            let detected = find(machine(base)).unwrap();
            assert_eq!(detected.base, base);
            assert_eq!((detected.major, detected.minor), (4, 17));
            assert_eq!(detected.domain, Some(DomainId(7)));
            assert!(detected.clock_is_emulated);
            assert_eq!(detected.processor, Processor::Amd);
            assert_eq!(detected.hypercall_register, 0x4000_0000);
        }
    }

    #[test]
    fn other_machines_are_not_xen() {
        assert_eq!(find(|_, _| result(0, 0, 0, 0)), None);
        assert_eq!(find(machine(0x4001_0100)), None);
        // The last basic leaf repeated, as Intel processors answer unknown leaves.
        assert_eq!(find(|_, _| result(7, 0x340, 0x340, 0)), None);
        // The signature without leaves behind it.
        assert_eq!(find(|leaf, _| result(leaf, XEN[0], XEN[1], XEN[2])), None);
    }

    #[test]
    fn a_xen_that_hides_the_domain_number_is_accepted() {
        let machine = machine(FIRST_BASE);
        let detected = find(|leaf, subleaf| match leaf {
            0x4000_0004 => result(0, 0, 7, 0),
            _ => machine(leaf, subleaf),
        });
        assert_eq!(detected.unwrap().domain, None);
        let detected = find(|leaf, subleaf| match leaf {
            FIRST_BASE => result(FIRST_BASE + 2, XEN[0], XEN[1], XEN[2]),
            _ => machine(leaf, subleaf),
        });
        let detected = detected.unwrap();
        assert_eq!((detected.domain, detected.clock_is_emulated), (None, false));
    }

    #[test]
    fn vendors() {
        let leaf = |text: &[u8; 12]| {
            let word = |at: usize| u32::from_le_bytes(text[at..at + 4].try_into().unwrap());
            vendor(result(1, word(0), word(8), word(4)))
        };
        assert_eq!(leaf(b"AuthenticAMD"), Processor::Amd);
        assert_eq!(leaf(b"HygonGenuine"), Processor::Amd);
        assert_eq!(leaf(b"GenuineIntel"), Processor::Intel);
        assert_eq!(leaf(b"TCGTCGTCGTCG"), Processor::Unknown);
    }

    #[test]
    fn the_instruction_is_read_from_a_hypercall_page() {
        // mov eax, 0; vmmcall; ret
        let mut entry = [0xcc; 32];
        entry[..9].copy_from_slice(&[0xb8, 0, 0, 0, 0, 0x0f, 0x01, 0xd9, 0xc3]);
        assert_eq!(
            instruction_in_hypercall_page(&entry),
            Some(Instruction::Vmmcall)
        );
        entry[7] = 0xc1;
        assert_eq!(
            instruction_in_hypercall_page(&entry),
            Some(Instruction::Vmcall)
        );
        assert_eq!(instruction_in_hypercall_page(&[0; 32]), None);
    }
}
