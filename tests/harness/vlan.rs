//! A VLAN of the wire without the kernel's 802.1Q devices, which not every kernel has: two programs
//! of a few instructions on eth0. What leaves gets the tag; what comes in with the tag loses it
//! behind XDP and in front of the stack; what comes in without is dropped.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use nix::libc;

use crate::netns::Netns;

/// One eBPF instruction: opcode, registers (source in the high half), offset, immediate.
type Instruction = (u8, u8, i16, i32);

const MOV_IMMEDIATE: u8 = 0xb7;
const LOAD_WORD: u8 = 0x61;
const JUMP_NOT_EQUAL: u8 = 0x55;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;
/// Helpers of the kernel (include/uapi/linux/bpf.h).
const SKB_VLAN_PUSH: i32 = 18;
const SKB_VLAN_POP: i32 = 19;
/// Fields of `struct __sk_buff`.
const VLAN_PRESENT: i16 = 20;
const VLAN_TCI: i16 = 24;
/// Verdicts of TC.
const OK: i32 = 0;
const SHOT: i32 = 2;
/// 0x8100 in network order.
const PROTO_8021Q: i32 = 0x0081;

const PROG_LOAD: libc::c_long = 5;
const OBJ_PIN: libc::c_long = 6;
const SCHED_CLS: u32 = 3;

/// Puts everything eth0 of `ns` sends and receives on VLAN `id`; the programs are pinned in `pins`.
pub(crate) fn put_on(ns: &Netns, device: &str, id: u16, pins: &Path) -> Result<()> {
    ensure!((1..=4094).contains(&id), "{id} is not a VLAN id");
    ns.run(["tc", "qdisc", "replace", "dev", device, "clsact"])?;
    for (direction, program) in [("egress", push(id)), ("ingress", pop(id))] {
        let pin = pins.join(direction);
        // The first machine of the bed makes the programs, the others use them too.
        if !pin.exists() {
            load(&program, &pin).with_context(|| format!("loading the VLAN program for {direction}"))?;
        }
        let pin = pin.to_string_lossy();
        ns.run(["tc", "filter", "add", "dev", device, direction, "bpf", "direct-action", "object-pinned", &pin])?;
    }
    Ok(())
}

fn push(id: u16) -> Vec<Instruction> {
    vec![
        (MOV_IMMEDIATE, 2, 0, PROTO_8021Q),
        (MOV_IMMEDIATE, 3, 0, i32::from(id)),
        (CALL, 0, 0, SKB_VLAN_PUSH),
        (MOV_IMMEDIATE, 0, 0, OK),
        (EXIT, 0, 0, 0),
    ]
}

fn pop(id: u16) -> Vec<Instruction> {
    const R2_FROM_R1: u8 = 0x12;
    vec![
        (LOAD_WORD, R2_FROM_R1, VLAN_PRESENT, 0),
        (JUMP_NOT_EQUAL, 2, 5, 1),
        (LOAD_WORD, R2_FROM_R1, VLAN_TCI, 0),
        (JUMP_NOT_EQUAL, 2, 3, i32::from(id)),
        (CALL, 0, 0, SKB_VLAN_POP),
        (MOV_IMMEDIATE, 0, 0, OK),
        (EXIT, 0, 0, 0),
        (MOV_IMMEDIATE, 0, 0, SHOT),
        (EXIT, 0, 0, 0),
    ]
}

/// Loads a classifier and pins it. aya loads ELF files only, and this is none.
fn load(program: &[Instruction], pin: &Path) -> Result<()> {
    let mut code = Vec::new();
    for (opcode, registers, offset, immediate) in program {
        code.extend([*opcode, *registers]);
        code.extend(offset.to_ne_bytes());
        code.extend(immediate.to_ne_bytes());
    }
    let license = c"GPL";
    let mut attributes = Attributes::default();
    attributes.put(0, &SCHED_CLS.to_ne_bytes());
    attributes.put(4, &u32::try_from(program.len())?.to_ne_bytes());
    attributes.put(8, &(code.as_ptr() as u64).to_ne_bytes());
    attributes.put(16, &(license.as_ptr() as u64).to_ne_bytes());
    let descriptor = attributes.call(PROG_LOAD).context("the verifier or the kernel refuses")?;
    // SAFETY: the kernel has just made this descriptor for us alone.
    #[expect(unsafe_code, reason = "takes over a descriptor the kernel returned as a number")]
    let loaded = unsafe { OwnedFd::from_raw_fd(i32::try_from(descriptor)?) };

    let path = CString::new(pin.as_os_str().as_encoded_bytes())?;
    let mut attributes = Attributes::default();
    attributes.put(0, &(path.as_ptr() as u64).to_ne_bytes());
    attributes.put(8, &loaded.as_raw_fd().to_ne_bytes());
    attributes.call(OBJ_PIN).with_context(|| format!("pinning {}", pin.display()))?;
    Ok(())
}

/// `union bpf_attr`, as large as the fields used here need and zero where nothing is put.
#[derive(Default)]
#[repr(C, align(8))]
struct Attributes([u8; 32]);

impl Attributes {
    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn call(&self, command: libc::c_long) -> io::Result<libc::c_long> {
        // SAFETY: the kernel reads 32 bytes from the array, and through pointers in it only what
        // `load` keeps alive until this returns.
        #[expect(unsafe_code, reason = "bpf(2) has no safe face here")]
        let result = unsafe { libc::syscall(libc::SYS_bpf, command, self.0.as_ptr(), self.0.len()) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
    }
}
