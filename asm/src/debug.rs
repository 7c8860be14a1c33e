//! Tells other programs which function a stub is of: `perf`, by a map of
//! addresses or by a dump of the code, and debuggers, by an object file in
//! memory. Each is asked for by name; nothing is written unasked.

mod dump;
mod elf;
mod gdb;

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::{Mutex, PoisonError};

use self::dump::Dump;
use crate::stub::Stub;

/// Who is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tell {
    /// `perf report`, by `/tmp/perf-PID.map`: a line for each stub.
    pub perf_map: bool,
    /// `perf inject --jit`, by `/tmp/jit-PID.dump`: with the code, which other
    /// tools then show instruction by instruction.
    pub jitdump: bool,
    /// Debuggers that know GDB's interface for compiled code: names, and how to
    /// unwind. Many objects make a debugger slow.
    pub gdb: bool,
}

/// Tells of stubs, once of each.
#[derive(Debug)]
pub struct Teller {
    tell: Tell,
    folder: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The process that the files are of; a child has its own.
    process: u32,
    map: Option<File>,
    dump: Option<Dump>,
    told: Vec<(String, Stub)>,
    /// A file could not be written: nothing more is.
    broken: bool,
    entries: HashSet<u64>,
}

impl Teller {
    /// Tells those of `tell`.
    pub fn new(tell: Tell) -> Teller {
        Teller::in_folder(tell, Path::new("/tmp"))
    }

    fn in_folder(tell: Tell, folder: &Path) -> Teller {
        Teller { tell, folder: folder.to_owned(), state: Mutex::default() }
    }

    /// Whether anyone is told.
    pub fn tells(&self) -> bool {
        self.tell != Tell::default()
    }

    /// Tells that `stub` is of the function `name`. A stub that functions share
    /// has the name of the first.
    ///
    /// # Errors
    /// What the system says of a file that cannot be written, once: files are
    /// left alone from then on.
    pub fn tell(&self, name: &str, stub: &Stub) -> io::Result<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.tells() || !state.entries.insert(stub.entry()) {
            return Ok(());
        }
        let name = format!("hotcall::{name}");
        state.told.push((name.clone(), stub.clone()));
        if self.tell.gdb {
            gdb::register(elf::object(&name, stub));
        }
        if state.broken {
            return Ok(());
        }
        let written = self.write(&mut state, &name, stub);
        state.broken = written.is_err();
        written
    }

    /// Writes a stub to the files, which are made if this process has none.
    fn write(&self, state: &mut State, name: &str, stub: &Stub) -> io::Result<()> {
        let State { process, map, dump, told, .. } = state;
        if *process == process::id() {
            let mapped = map.as_mut().map_or(Ok(()), |map| map.write_all(&line(name, stub)));
            let dumped = dump.as_mut().map_or(Ok(()), |dump| dump.add(name, stub));
            return mapped.and(dumped);
        }
        *process = process::id();
        *map = self.open_map(told)?;
        *dump = self.open_dump(told)?;
        Ok(())
    }

    /// The map of this process, with a line for each stub so far.
    fn open_map(&self, told: &[(String, Stub)]) -> io::Result<Option<File>> {
        if !self.tell.perf_map {
            return Ok(None);
        }
        let mut file = open(&self.folder.join(format!("perf-{}.map", process::id())))?;
        let lines: Vec<u8> = told.iter().flat_map(|(name, stub)| line(name, stub)).collect();
        file.write_all(&lines)?;
        Ok(Some(file))
    }

    /// The dump of this process, with each stub so far.
    fn open_dump(&self, told: &[(String, Stub)]) -> io::Result<Option<Dump>> {
        if !self.tell.jitdump {
            return Ok(None);
        }
        let path = self.folder.join(format!("jit-{}.dump", process::id()));
        let mut dump = Dump::open(&path)?;
        told.iter().try_for_each(|(name, stub)| dump.add(name, stub))?;
        Ok(Some(dump))
    }
}

/// A line of the map. Source: linux, `tools/perf/Documentation/jit-interface.txt`.
fn line(name: &str, stub: &Stub) -> Vec<u8> {
    let name = name.replace('\n', " ");
    format!("{:x} {:x} {name}\n", stub.entry(), stub.len()).into_bytes()
}

/// A file that only this user may read, at the end; not behind somebody's link.
/// Others of this process may have begun it.
fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600).custom_flags(libc::O_NOFOLLOW);
    }
    options.open(path)
}

#[cfg(test)]
mod tests;
