//! Holds what is known of frames against the code: at each instruction of a
//! stub, where the caller's frame is and what was saved follows from the
//! instructions before it.

use std::collections::HashMap;

use iced_x86::{Decoder, DecoderOptions, Instruction, Mnemonic, OpKind, Register};

use crate::Stub;

/// What the instructions so far have done to the stack.
#[derive(Clone, Debug)]
struct Stack {
    /// Bytes from the caller's frame down to the stack pointer.
    depth: i64,
    /// The same for rbp, once it was set.
    frame: Option<i64>,
    /// The registers that were pushed, and how far below the caller's frame.
    saved: Vec<(Register, i64)>,
}

impl Stack {
    fn step(&mut self, inst: &Instruction) {
        let reg = inst.op0_register();
        match inst.mnemonic() {
            Mnemonic::Push => {
                self.depth += 8;
                self.saved.push((reg, self.depth));
            }
            Mnemonic::Pop => {
                assert_eq!(self.saved.pop(), Some((reg, self.depth)), "pops what was pushed");
                self.depth -= 8;
                if reg == Register::RBP {
                    self.frame = None;
                }
            }
            Mnemonic::Sub if reg == Register::RSP => self.depth += inst.immediate(1) as i64,
            Mnemonic::Add if reg == Register::RSP => self.depth -= inst.immediate(1) as i64,
            Mnemonic::Mov if reg == Register::RBP => self.frame = Some(self.depth),
            _ => {}
        }
    }
}

/// Checks each instruction of `stub`.
pub(super) fn check(stub: &Stub) {
    let mut known = HashMap::from([(0, Stack { depth: 8, frame: None, saved: Vec::new() })]);
    let mut decoder = Decoder::with_ip(64, stub.code(), 0, DecoderOptions::NONE);
    let mut vectors = 0;
    while decoder.can_decode() {
        let inst = decoder.decode();
        let mut stack = known.get(&inst.ip()).expect("code is reached from before").clone();
        let row = stub.rows.iter().rfind(|row| row.at as u64 <= inst.ip());
        if let Some(row) = row {
            let (base, offset, saved) = row.state.parts();
            let place =
                || format!("at {:#x}: {stack:?}, {row:?}\n{}", inst.ip(), stub.disassemble());
            let below = match base.full() {
                Register::RSP => Some(stack.depth),
                Register::RBP => stack.frame,
                _ => None,
            };
            assert_eq!(below, Some(offset.into()), "{}", place());
            let (vector, general): (Vec<_>, Vec<_>) =
                saved.iter().copied().partition(|(reg, _)| reg.is_vector());
            let general: Vec<_> =
                general.into_iter().map(|(reg, below)| (reg.full(), i64::from(below))).collect();
            assert_eq!(general, stack.saved, "{}", place());
            vectors = vectors.max(vector.len());
        } else {
            assert_eq!((stack.depth, stack.saved.len()), (8, 0), "at the entry");
        }
        stack.step(&inst);
        let branches = inst.op0_kind() == OpKind::NearBranch64;
        if branches {
            known.insert(inst.near_branch_target(), stack.clone());
        }
        match inst.mnemonic() {
            Mnemonic::Jmp if branches => {}
            Mnemonic::Jmp | Mnemonic::Ret => {
                assert_eq!((stack.depth, stack.saved.len()), (8, 0), "nothing is left behind");
            }
            _ => drop(known.insert(inst.next_ip(), stack)),
        }
    }
    assert!(vectors <= 10, "no convention has more");
}
