//! The dump of code that `perf inject --jit` reads. Source: linux,
//! `tools/perf/Documentation/jitdump-specification.txt`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

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

/// The dumps that this program has begun, and how many stubs are in each. What
/// else is there is of another program that had the number of this process.
static BEGUN: Mutex<BTreeMap<PathBuf, Arc<AtomicU64>>> = Mutex::new(BTreeMap::new());

/// A dump that is being written, maybe by others of this process too.
#[derive(Debug)]
pub(super) struct Dump {
    file: File,
    /// By this mapping `perf record` notices the file.
    _mapped: Mmap,
    /// How many stubs are in it.
    count: Arc<AtomicU64>,
}

impl Dump {
    /// Opens the dump of this process, and begins it if nobody has.
    ///
    /// # Errors
    /// What the system says; also where its folder may not have executable files.
    pub(super) fn open(path: &Path) -> io::Result<Dump> {
        let mut begun = BEGUN.lock().unwrap_or_else(PoisonError::into_inner);
        let mut file = super::open(path)?;
        let count = begun.get(path).cloned().unwrap_or_default();
        if !begun.contains_key(path) {
            file.set_len(0)?;
            file.write_all(&header())?;
            begun.insert(path.to_owned(), Arc::clone(&count));
        }
        // SAFETY: nobody looks at what is mapped.
        let mapped = unsafe { MmapOptions::new().len(HEADER as usize).map_exec(&file) }?;
        Ok(Dump { file, _mapped: mapped, count })
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
        let index = self.count.fetch_add(1, Relaxed);
        for word in [stub.entry(), stub.entry(), stub.len() as u64, index] {
            record.extend(word.to_ne_bytes());
        }
        record.extend(name.bytes().map(|byte| byte.max(1)));
        record.push(0);
        record.extend(stub.code());
        self.file.write_all(&record)
    }
}

/// What a dump begins with.
fn header() -> Vec<u8> {
    let mut header = Vec::new();
    for word in [MAGIC, VERSION, HEADER, MACHINE, 0, process::id()] {
        header.extend(word.to_ne_bytes());
    }
    header.extend(now().to_ne_bytes());
    header.extend(0_u64.to_ne_bytes());
    header
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
