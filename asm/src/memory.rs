//! Code memory: stubs packed into a bounded range of pages, none of which is
//! ever writable and executable, and none of which is written once it is live.
//!
//! The range is reserved once. To add code to a page, its new content is built
//! in a fresh private page: what is live is copied and the new code put behind
//! it. That page is made executable, and then moved over the old one. A thread
//! that runs live code there sees the same bytes before and after. After a
//! fork, parent and child each have their own pages.
//!
//! This file has all the unsafe code of the crate.

use std::io;
use std::mem::ManuallyDrop;
use std::ops::Range;

use hotcall_tracer::Refusal;
use memmap2::{Mmap, MmapMut, MmapOptions};

use crate::refusals::{CODE_MEMORY_FULL, CODE_MEMORY_LOST, NO_EXECUTABLE_MEMORY};

/// The size of a page, and the unit of moving.
const PAGE: usize = 4096;
/// Stubs start at multiples of this.
const ALIGN: usize = 16;
/// No memory is larger, in whole pages.
const MOST_BYTES: usize = isize::MAX as usize / PAGE * PAGE;
/// What fills the rest of a page: a breakpoint in each byte.
const FILLER: u8 = 0xcc;
/// `endbr64; ret`: what is put into place to see whether it can be.
const PROBE: [u8; 5] = [0xf3, 0x0f, 0x1e, 0xfa, 0xc3];

/// How code comes to its place.
#[derive(Debug)]
enum Mode {
    /// Moved into the reserved range. It is never unmapped: some thread may be
    /// inside a stub for as long as the process lives.
    Packed(ManuallyDrop<Mmap>),
    /// The system cannot move pages, so each stub has pages of its own.
    Separate,
    /// Moving failed, and nobody knows what is mapped now: no further code.
    Lost,
}

/// Bounded memory for code.
#[derive(Debug)]
pub(crate) struct Arena {
    mode: Mode,
    /// How many bytes of pages there may be; a multiple of a page.
    capacity: usize,
    /// The first byte that is in no stub, or for separate pages their size.
    used: usize,
}

impl Arena {
    /// Reserves `capacity` bytes and puts a first piece of code there.
    ///
    /// # Errors
    /// [`NO_EXECUTABLE_MEMORY`] if the system does not make pages executable.
    pub(crate) fn probe(capacity: usize) -> Result<Arena, Refusal> {
        let capacity = capacity.clamp(1, MOST_BYTES).next_multiple_of(PAGE);
        let mode = match reserve(capacity) {
            Ok(range) => Mode::Packed(ManuallyDrop::new(range)),
            Err(_) => Mode::Separate,
        };
        let mut arena = Arena { mode, capacity, used: 0 };
        match arena.install(&PROBE) {
            Err(CODE_MEMORY_LOST) => arena.mode = Mode::Separate,
            Err(refusal) => return Err(refusal),
            // No stub is in the page yet: the first one replaces it.
            Ok(_) => arena.used = 0,
        }
        if let Mode::Separate = arena.mode {
            executable(PAGE, |page| page[..PROBE.len()].copy_from_slice(&PROBE))?;
        }
        Ok(arena)
    }

    /// Bytes in use, with what lies between stubs for alignment.
    pub(crate) fn used(&self) -> usize {
        self.used
    }

    /// Pages in use.
    pub(crate) fn pages(&self) -> usize {
        self.used.div_ceil(PAGE)
    }

    /// Bytes of pages that there may be.
    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    /// The addresses around the code at `address` that are code memory.
    pub(crate) fn around(&self, address: u64, size: usize) -> Range<u64> {
        match &self.mode {
            Mode::Packed(range) => {
                let start = range.as_ptr().addr() as u64;
                start..start + self.capacity as u64
            }
            _ => address..address + size.next_multiple_of(PAGE) as u64,
        }
    }

    /// Puts `code` into executable memory and gives its address. It stays
    /// there, unchanged, as long as the process lives.
    ///
    /// # Errors
    /// [`CODE_MEMORY_FULL`], [`NO_EXECUTABLE_MEMORY`] or [`CODE_MEMORY_LOST`].
    pub(crate) fn install(&mut self, code: &[u8]) -> Result<u64, Refusal> {
        let start = match self.mode {
            Mode::Packed(_) => self.used.next_multiple_of(ALIGN),
            Mode::Separate => self.used.next_multiple_of(PAGE),
            Mode::Lost => return Err(CODE_MEMORY_LOST),
        };
        let end = start.checked_add(code.len()).ok_or(CODE_MEMORY_FULL)?;
        if end > self.capacity {
            return Err(CODE_MEMORY_FULL);
        }
        let first_page = start - start % PAGE;
        let size = end.next_multiple_of(PAGE) - first_page;
        let place = start - first_page..end - first_page;
        let address = match &self.mode {
            Mode::Packed(range) => {
                let live = &range[first_page..self.used.max(first_page)];
                let pages = executable(size, |page| fill(page, live, place, code))?;
                match put_over(pages, range, first_page..first_page + size) {
                    Ok(()) => range.as_ptr().addr() + start,
                    Err(_) => {
                        self.mode = Mode::Lost;
                        return Err(CODE_MEMORY_LOST);
                    }
                }
            }
            _ => {
                let pages =
                    ManuallyDrop::new(executable(size, |page| fill(page, &[], place, code))?);
                pages.as_ptr().addr()
            }
        };
        self.used = end;
        Ok(address as u64)
    }
}

/// Pages at addresses that nothing else gets. Nobody can write them, so they
/// cost no memory until code is moved there. They are executable from the start:
/// the kernel tells profilers of memory that becomes executable, and not of
/// pages that are moved.
fn reserve(capacity: usize) -> io::Result<Mmap> {
    MmapOptions::new().len(capacity).no_reserve_swap().map_anon()?.make_exec()
}

/// Fresh pages, written by `write` and then made executable.
fn executable(size: usize, write: impl FnOnce(&mut [u8])) -> Result<Mmap, Refusal> {
    let mut pages = MmapMut::map_anon(size).map_err(|_| CODE_MEMORY_FULL)?;
    write(&mut pages);
    pages.make_exec().map_err(|_| NO_EXECUTABLE_MEMORY)
}

/// Writes the content of pages: what is live already, and `code` at `place`.
fn fill(pages: &mut [u8], live: &[u8], place: Range<usize>, code: &[u8]) {
    pages[..live.len()].copy_from_slice(live);
    pages[live.len()..].fill(FILLER);
    pages[place].copy_from_slice(code);
}

/// Moves `pages` over the bytes `target` of `range`, which are as many.
///
/// # Errors
/// The system's. The pages of `target` may then be lost.
#[cfg(target_os = "linux")]
fn put_over(pages: Mmap, range: &Mmap, target: Range<usize>) -> io::Result<()> {
    let over = &range[target];
    assert_eq!(pages.len(), over.len(), "pages replace as many others");
    let pages = ManuallyDrop::new(pages);
    let (from, size) = (pages.as_ptr().cast_mut().cast(), pages.len());
    let to: *mut libc::c_void = over.as_ptr().cast_mut().cast();
    // SAFETY:
    // - `from` is a whole mapping of `size` bytes that nobody else knows. It
    //   is not unmapped when this succeeds, as `pages` is not dropped.
    // - `to` lies on a page boundary in `range`, with `size` bytes behind it,
    //   so nothing but code memory is replaced.
    // - Live bytes there are equal in `pages` (see `fill`), other bytes of
    //   `range` are in no stub. No reference to them is used after the call.
    // - Threads that run code there are not disturbed. The kernel holds the
    //   lock on the address space from removing the old pages to mapping the
    //   new ones; who faults in between waits for it and finds the new ones.
    // - The kernel checks arguments, limits on mappings and memory accounting
    //   before it removes anything. If it fails for want of memory of its own
    //   behind that, live pages are lost: the caller adds no code any more,
    //   and a thread that enters them faults instead of running other code.
    let moved =
        unsafe { libc::mremap(from, size, size, libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED, to) };
    match moved == libc::MAP_FAILED {
        true => Err(io::Error::last_os_error()),
        false => Ok(()),
    }
}

/// Only Linux moves pages.
#[cfg(not(target_os = "linux"))]
fn put_over(_: Mmap, _: &Mmap, _: Range<usize>) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Puts errno back when it is dropped: programs look at what a foreign
/// function left there, and compiling comes in between.
#[derive(Debug)]
pub(crate) struct KeepErrno {
    #[cfg(target_os = "linux")]
    errno: libc::c_int,
}

impl KeepErrno {
    /// Remembers errno.
    pub(crate) fn new() -> KeepErrno {
        KeepErrno {
            #[cfg(target_os = "linux")]
            errno: io::Error::last_os_error().raw_os_error().unwrap_or(0),
        }
    }
}

#[cfg(target_os = "linux")]
impl Drop for KeepErrno {
    fn drop(&mut self) {
        // SAFETY: it has no preconditions.
        let errno = unsafe { libc::__errno_location() };
        // SAFETY: it points to this thread's errno, which lives as long as the thread.
        unsafe { *errno = self.errno };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::slice;

    /// The bytes at `address`.
    fn read(address: u64, size: usize) -> &'static [u8] {
        // SAFETY: an arena gave this address for code of this size, which
        // stays there unchanged.
        unsafe { slice::from_raw_parts(address as *const u8, size) }
    }

    /// Installs pieces of many sizes and checks that all keep their content.
    fn check(mut arena: Arena) {
        let pieces: Vec<Vec<u8>> = (1..60).map(|size| vec![size as u8; size * size * 3]).collect();
        let places: Vec<u64> = pieces.iter().map(|code| arena.install(code).unwrap()).collect();
        for (code, place) in pieces.iter().zip(places) {
            assert_eq!(place % ALIGN as u64, 0);
            assert_eq!(read(place, code.len()), code);
        }
        assert_eq!(arena.install(&vec![0; 1 << 20]), Err(CODE_MEMORY_FULL));
        assert!(arena.install(&[0xc3]).is_ok());
    }

    #[test]
    fn packed_code_keeps_its_content() {
        let arena = Arena::probe(1 << 20).unwrap();
        #[cfg(target_os = "linux")]
        assert!(matches!(arena.mode, Mode::Packed(_)), "{arena:?}");
        check(arena);
    }

    #[test]
    fn separate_code_keeps_its_content() {
        check(Arena { mode: Mode::Separate, capacity: 1 << 20, used: 0 });
    }

    #[test]
    fn no_capacity_is_too_large() {
        let arena = Arena::probe(usize::MAX).unwrap();
        assert_eq!(arena.capacity(), MOST_BYTES);
        assert!(matches!(arena.mode, Mode::Separate), "{arena:?}");
    }

    #[test]
    fn a_lost_arena_gives_no_code() {
        let mut arena = Arena { mode: Mode::Lost, capacity: 1 << 20, used: 0 };
        assert_eq!(arena.install(&PROBE), Err(CODE_MEMORY_LOST));
    }
}
