//! The dump of code that `perf inject --jit` reads. Source: linux,
//! `tools/perf/Documentation/jitdump-specification.txt`.

use std::fs::File;
use std::io::{self, Write};
use std::process;

use memmap2::{Mmap, MmapOptions};

use crate::stub::Stub;

/// `JiTD`, in the order of this machine's bytes.
const MAGIC: u32 = 0x4a69_5444;
const VERSION: u32 = 1;
const HEADER: u32 = 40;
/// x86-64. Source: System V ABI, AMD64 supplement, section 4.1.1.
const MACHINE: u32 = 62;
/// The record of code that was loaded.
const LOAD: u32 = 0;
/// Its size without name and code.
const LOAD_HEADER: usize = 56;

/// A dump that is being written.
#[derive(Debug)]
pub(super) struct Dump {
    file: File,
    /// By this mapping `perf record` notices the file.
    _mapped: Mmap,
    /// How many stubs are in it.
    count: u64,
}

impl Dump {
    /// Begins a dump.
    ///
    /// # Errors
    /// What the system says; also where its folder may not have executable files.
    pub(super) fn new(mut file: File) -> io::Result<Dump> {
        let mut header = Vec::new();
        for word in [MAGIC, VERSION, HEADER, MACHINE, 0, process::id()] {
            header.extend(word.to_ne_bytes());
        }
        header.extend(now().to_ne_bytes());
        header.extend(0_u64.to_ne_bytes());
        file.write_all(&header)?;
        // SAFETY: nobody looks at what is mapped.
        let mapped = unsafe { MmapOptions::new().len(HEADER as usize).map_exec(&file) }?;
        Ok(Dump { file, _mapped: mapped, count: 0 })
    }

    /// Adds a stub.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn add(&mut self, name: &str, stub: &Stub) -> io::Result<()> {
        let size = LOAD_HEADER + name.len() + 1 + stub.len();
        let mut record = Vec::with_capacity(size);
        record.extend(LOAD.to_ne_bytes());
        record.extend((size as u32).to_ne_bytes());
        record.extend(now().to_ne_bytes());
        record.extend(process::id().to_ne_bytes());
        record.extend(thread().to_ne_bytes());
        for word in [stub.entry(), stub.entry(), stub.len() as u64, self.count] {
            record.extend(word.to_ne_bytes());
        }
        record.extend(name.bytes().map(|byte| byte.max(1)));
        record.push(0);
        record.extend(stub.code());
        self.count += 1;
        self.file.write_all(&record)
    }
}

/// Nanoseconds of the clock that `perf record -k mono` uses.
#[cfg(unix)]
fn now() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a local that may be written.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Nobody reads it elsewhere.
#[cfg(not(unix))]
fn now() -> u64 {
    0
}

/// The number of this thread.
fn thread() -> u32 {
    #[cfg(target_os = "linux")]
    // SAFETY: it has no preconditions.
    let number = unsafe { libc::gettid() } as u32;
    #[cfg(not(target_os = "linux"))]
    let number = process::id();
    number
}
