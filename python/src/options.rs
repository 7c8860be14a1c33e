//! The options of a process, as `name=value` pairs separated by commas: those of the
//! environment variable `HOTCALL`, and of the command line.

use std::fmt;

use hotcall_asm::debug::Tell;

use crate::gil::Policy;

/// What a process may set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Options {
    /// Calls of one shape before its stub is compiled; 1 compiles at once.
    pub(crate) threshold: u32,
    /// Stubs of one function at most.
    pub(crate) shapes: usize,
    /// Whether stubs are compiled at all.
    pub(crate) jit: bool,
    /// Bytes of code memory at most.
    pub(crate) code: usize,
    /// Behave as if the system denied executable memory.
    pub(crate) deny: bool,
    /// Behave as if the system gave no thread for the monitor.
    pub(crate) deny_monitor: bool,
    /// Whether calls are counted.
    pub(crate) count: bool,
    /// Whether fields of structures and `byref` are made faster too.
    pub(crate) data: bool,
    /// Whether callbacks are made faster too.
    pub(crate) callbacks: bool,
    /// Who has the GIL during foreign calls.
    pub(crate) gil: Policy,
    /// Whether results are written into objects that were returned before.
    pub(crate) reuse: bool,
    /// Whether each call is timed, by the foreign function that it calls.
    pub(crate) profile: bool,
    /// Whether the arguments of calls are held against those of ctypes.
    pub(crate) check: Check,
    /// Which tools are told of stubs.
    pub(crate) tell: Tell,
    /// What is written to standard error as it happens.
    pub(crate) log: Log,
}

/// Whether calls are checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Check {
    /// They are not.
    Off,
    /// They are.
    On,
    /// They are, and one bit of what hotcall passes is turned over, to see the
    /// difference be found.
    Flip,
}

/// How much is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Log {
    /// Nothing.
    Off,
    /// One line per stub, and per function that is refused.
    Events,
    /// That, and the text of each trace.
    Trace,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            threshold: 100,
            shapes: 8,
            jit: true,
            code: 4 << 20,
            deny: false,
            deny_monitor: false,
            count: false,
            data: true,
            callbacks: true,
            gil: Policy::Lend,
            reuse: true,
            profile: false,
            check: Check::Off,
            tell: Tell::default(),
            log: Log::Off,
        }
    }
}

/// A pair that is not an option, with what would be one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BadOption {
    pair: String,
    expected: &'static str,
}

impl fmt::Display for BadOption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not an option; expected {}", self.pair, self.expected)
    }
}

impl Options {
    /// Reads `text`, as in `threshold=1,log=trace`; what it does not name keeps
    /// its default.
    ///
    /// # Errors
    /// The first pair that is not an option.
    pub(crate) fn parse(text: &str) -> Result<Options, BadOption> {
        let mut options = Options::default();
        for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            options
                .set(name.trim(), value.trim())
                .map_err(|expected| BadOption { pair: pair.to_owned(), expected })?;
        }
        Ok(options)
    }

    /// Sets one option, or says what was expected.
    fn set(&mut self, name: &str, value: &str) -> Result<(), &'static str> {
        let number = |least: usize, most: usize| {
            value.parse().ok().filter(|number| (least..=most).contains(number))
        };
        match name {
            "threshold" => {
                let expected = "threshold=N with N from 1 to 1000000";
                self.threshold = number(1, 1_000_000).ok_or(expected)? as u32;
            }
            "shapes" => {
                self.shapes = number(1, 16).ok_or("shapes=N with N from 1 to 16")?;
            }
            "code" => {
                let expected = "code=N with N KiB of code memory from 64 to 1048576";
                self.code = number(64, 1 << 20).ok_or(expected)? << 10;
            }
            "jit" => self.jit = switch(value).ok_or("jit=on or jit=off")?,
            "data" => self.data = switch(value).ok_or("data=on or data=off")?,
            "reuse" => self.reuse = switch(value).ok_or("reuse=on or reuse=off")?,
            "callbacks" => {
                self.callbacks = switch(value).ok_or("callbacks=on or callbacks=off")?;
            }
            "count" => self.count = switch(value).ok_or("count=1 or count=0")?,
            "profile" => self.profile = switch(value).ok_or("profile=1 or profile=0")?,
            "perf" => {
                (self.tell.perf_map, self.tell.jitdump) = match value {
                    "map" => (true, false),
                    "jitdump" => (false, true),
                    "off" => (false, false),
                    _ => return Err("perf=map, perf=jitdump or perf=off"),
                };
            }
            "gdb" => self.tell.gdb = switch(value).ok_or("gdb=on or gdb=off")?,
            "check" => {
                self.check = match value {
                    "1" | "on" => Check::On,
                    "0" | "off" => Check::Off,
                    "flip" => Check::Flip,
                    _ => return Err("check=1, check=0 or check=flip"),
                };
            }
            "memory" => self.deny = denial(value).ok_or("memory=deny or memory=allow")?,
            "monitor" => {
                self.deny_monitor = denial(value).ok_or("monitor=deny or monitor=allow")?;
            }
            "gil" => {
                self.gil = Policy::named(value).ok_or("gil=release, gil=lend or gil=hold")?;
            }
            "log" => {
                self.log = match value {
                    "off" => Log::Off,
                    "events" => Log::Events,
                    "trace" => Log::Trace,
                    _ => return Err("log=off, log=events or log=trace"),
                };
            }
            _ => return Err(NAMES),
        }
        Ok(())
    }
}

/// The names of all options.
const NAMES: &str = "threshold, shapes, jit, code, data, callbacks, gil, reuse, memory, monitor, \
    count, profile, check, perf, gdb or log";

fn denial(value: &str) -> Option<bool> {
    match value {
        "deny" => Some(true),
        "allow" => Some(false),
        _ => None,
    }
}

fn switch(value: &str) -> Option<bool> {
    match value {
        "on" | "1" => Some(true),
        "off" | "0" => Some(false),
        _ => None,
    }
}
