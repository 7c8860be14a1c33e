//! The native loop: every argument is a number in memory, or a word that was made
//! of an object before the first call, so the GIL is released once for many calls.
//!
//! **Invariant.** No turn touches an object, and whatever a turn needs lies in the
//! loop's own memory or is kept by its columns, so the GIL may be anyone's meanwhile.
//!
//! # Safety
//! The words of the table are the addresses of what the columns have, with the
//! distances that the stub was compiled for. Columns stay alive, and their buffers
//! exported, until the loop is dropped.

#![allow(unsafe_code, reason = "runs machine code on memory that the columns own")]

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use hotcall::Machine;
use hotcall_asm::Stub;
use hotcall_tracer::{Host, Live, Mem};
use pyo3::prelude::*;
use pyo3::types::PyTupleMethods;

use super::columns::{Column, View};
use super::shapes::{Form, compile};
use crate::capi;
use crate::declare::{Arg, ArgRule, Declaration, Kind, ResultRule};
use crate::errno;
use crate::gil::Policy;
use crate::helpers::keeping_errno;
use crate::kinds::handle;
use crate::layout;
use crate::raw::{Object, Owned};
use crate::rules::turns::{self, Item, Number};
use crate::runtime::{CallSite, RULE_CALLS, Runtime};

/// A loop that is ready to run.
pub(super) struct Native {
    /// Keep alive, and in place, what the table leads to.
    _columns: Vec<Column>,
    /// The capsule of the private errno, if the function asks for it.
    _errno: Option<Owned>,
    out: Option<(Py<PyAny>, View)>,
    site: Arc<CallSite>,
    runtime: &'static Runtime,
    /// What becomes of results.
    result: ResultRule,
    stub: Stub,
    /// The words of a turn's places and, behind them, the end of the turns.
    table: Vec<u64>,
    /// What objects became.
    _words: Vec<Vec<u64>>,
    /// The results as words, if there is no other place for them.
    kept: Vec<u64>,
    count: usize,
}

/// How long turns go on without a look at signals.
const UNSEEN: Duration = Duration::from_millis(50);
/// How long they go on with the GIL.
const HELD: Duration = Duration::from_millis(5);
/// How long the longest row of turns without a look at the clock should last.
const ROW: Duration = Duration::from_millis(2);

impl Native {
    /// The loop over these columns; none if each call has to be made by itself.
    pub(super) fn new(
        py: Python<'_>,
        runtime: &'static Runtime,
        function: Object,
        (columns, count): (Vec<Column>, usize),
        out: Option<(Py<PyAny>, View)>,
    ) -> Option<Native> {
        if !runtime.options.jit || runtime.is_watched() || count < 2 {
            return None;
        }
        let site = runtime.adopt(py, function)?;
        let declaration = site.declaration.as_ref().ok().filter(|it| is_plain(it, &columns))?;
        if site.loops.count(count) < runtime.options.threshold.into() {
            return None;
        }
        let mut made = Made::default();
        let memory = function.object(layout::CDATA_POINTER)?;
        let errno = match declaration.use_errno {
            true => Some(errno::made()?),
            false => None,
        };
        let space = errno.as_ref().map_or(0, |it| it.object().word(layout::CAPSULE_POINTER));
        made.place(memory.word(layout::MEMORY_WORD), 0)?;
        made.place(space, 0)?;
        let view = out.as_ref().map(|(_, view)| view);
        let kept = made.place_result(declaration, view, count)?;
        for (arg, column) in declaration.args.iter().zip(&columns) {
            if is_shifted(column, view) {
                return None;
            }
            made.place_items(py, runtime, arg, column)?;
        }
        made.table.push(0);
        let make = || keeping_errno(|| compile(runtime, &site, declaration, &made.form));
        let stub = site.loops.find_or(&made.form, runtime.options.shapes, make)?;
        let Made { table, words, .. } = made;
        let result = declaration.result.clone();
        Some(Native {
            _columns: columns,
            _errno: errno,
            out,
            site,
            runtime,
            result,
            stub,
            table,
            _words: words,
            kept,
            count,
        })
    }

    /// Runs the loop. Gives the results as a list, or what they were written to.
    ///
    /// # Errors
    /// What a signal handler raised, with the number of the turn that was next.
    pub(super) fn run(&mut self, py: Python<'_>) -> Result<Owned, (usize, PyErr)> {
        let mut done = 0;
        loop {
            let holds = self.site.gil.get() == Policy::Hold;
            let limit = if holds { HELD } else { UNSEEN };
            // SAFETY: the GIL is held.
            let state = if holds { 0 } else { unsafe { capi::PyEval_SaveThread() } };
            done = self.turns(done, limit);
            // Whoever waits gets its turn.
            // SAFETY: the GIL is held.
            let state = if holds { unsafe { capi::PyEval_SaveThread() } } else { state };
            // SAFETY: this thread's state, which was given up above.
            unsafe { capi::PyEval_RestoreThread(state) };
            if done == self.count {
                break;
            }
            if let Err(error) = py.check_signals() {
                self.count_calls(done);
                return Err((done, error));
            }
        }
        self.count_calls(done);
        self.results(py).map_err(|error| (self.count, error))
    }

    /// Counts calls, if they are counted. The GIL is held.
    fn count_calls(&self, calls: usize) {
        if self.runtime.options.count {
            RULE_CALLS.fetch_add(calls as u64, Relaxed);
        }
    }

    /// Does turns from `done` on, until all are done or so much time has passed;
    /// gives the next one.
    fn turns(&mut self, mut done: usize, limit: Duration) -> usize {
        // SAFETY: the stub is a loop, which is entered like this.
        let run = unsafe {
            std::mem::transmute::<usize, unsafe extern "C-unwind" fn(*const u64, u64)>(
                self.stub.entry() as usize,
            )
        };
        let started = Instant::now();
        let (mut row, mut before) = (16, Duration::ZERO);
        while done < self.count {
            let end = self.count.min(done + row);
            if let Some(last) = self.table.last_mut() {
                *last = end as u64;
            }
            // SAFETY: the table has the word of each parameter and the end, and
            // there is a turn at least.
            unsafe { run(self.table.as_ptr(), done as u64) };
            done = end;
            let now = started.elapsed();
            if now >= limit {
                break;
            }
            if now - before < ROW {
                row *= 2;
            }
            before = now;
        }
        done
    }

    /// What the results were written to, or a list of objects for the kept ones.
    fn results(&self, py: Python<'_>) -> PyResult<Owned> {
        if let Some((out, _)) = &self.out {
            return Ok(Owned::of(handle(out.bind(py))));
        }
        // SAFETY: the GIL is held.
        let list = unsafe { capi::PyList_New(self.count as isize) };
        let list = Owned::from_new(list).ok_or_else(|| PyErr::fetch(py))?;
        // SAFETY: making an object of a word loads nothing but CPython's own tables.
        let mut machine = unsafe { Machine::new() };
        let mut live = Live { host: &mut machine };
        for (index, word) in self.kept.iter().enumerate() {
            let result = turns::wrap(&mut live, &self.runtime.known, &self.result, *word);
            if result == 0 {
                return Err(PyErr::fetch(py));
            }
            // SAFETY: a new list, an index within it, and a reference for it.
            unsafe { capi::PyList_SetItem(list.object().address(), index as isize, result) };
        }
        Ok(list)
    }
}

/// Whether calls of a function are nothing but its arguments, the foreign call, and
/// its result.
fn is_plain(declaration: &Declaration, columns: &[Column]) -> bool {
    let Declaration { errcheck: None, checker: None, parameters: None, .. } = declaration else {
        return false;
    };
    !declaration.python_api && declaration.args.len() == columns.len()
}

/// Whether results would be written over items that are still to be read.
fn is_shifted(column: &Column, out: Option<&View>) -> bool {
    match (column, out) {
        (Column::Memory(view), Some(out)) => view.is_shifted(out),
        _ => false,
    }
}

/// A loop that is being made.
#[derive(Default)]
struct Made {
    form: Form,
    table: Vec<u64>,
    words: Vec<Vec<u64>>,
}

impl Made {
    /// The next parameter is this word, and as many more for each turn.
    fn place(&mut self, word: u64, stride: isize) -> Option<()> {
        self.form.strides.push(i32::try_from(stride).ok()?);
        self.table.push(word);
        Some(())
    }

    /// The place of the results: the memory of `out`, or words of our own, which it
    /// gives.
    fn place_result(
        &mut self,
        declaration: &Declaration,
        out: Option<&View>,
        count: usize,
    ) -> Option<Vec<u64>> {
        if let Some(view) = out {
            self.form.result = Some(Item::Number(view.number?));
            self.place(view.start(), view.stride)?;
            return matches!(declaration.result, ResultRule::Simple(_)).then(Vec::new);
        }
        self.form.result = match declaration.result {
            ResultRule::Void => None,
            ResultRule::Simple(_) => Some(Item::Word),
            _ => return None,
        };
        let mut kept = Vec::new();
        // Where there is no memory for it, Python says so.
        kept.try_reserve_exact(count).ok()?;
        kept.resize(count, 0_u64);
        self.place(kept.as_mut_ptr().expose_provenance() as u64, size_of::<u64>() as isize)?;
        Some(kept)
    }

    /// The items of one argument.
    fn place_items(
        &mut self,
        py: Python<'_>,
        runtime: &Runtime,
        arg: &Arg,
        column: &Column,
    ) -> Option<()> {
        let (words, stride) = match column {
            Column::Memory(view) => {
                let number = view.number?;
                let is_float = matches!(arg.rule, ArgRule::Simple(Kind::F64 | Kind::F32));
                if let Number::Int(Mem::I64, unsigned) = number
                    && is_float
                    && !is_exact(view, unsigned)
                {
                    return None;
                }
                self.form.items.push(Item::Number(number));
                return self.place(view.start(), view.stride);
            }
            Column::Same(object) => (unbox(runtime, arg, [object.as_ptr() as u64])?, 0),
            Column::Objects(objects) => {
                let objects = objects.bind(py).iter_borrowed().map(|item| item.as_ptr() as u64);
                (unbox(runtime, arg, objects)?, size_of::<u64>() as isize)
            }
        };
        self.form.items.push(Item::Word);
        self.place(words.as_ptr().expose_provenance() as u64, stride)?;
        self.words.push(words);
        Some(())
    }
}

/// The words of objects; none if one of them cannot be passed as one.
fn unbox(
    runtime: &Runtime,
    arg: &Arg,
    objects: impl IntoIterator<Item = u64, IntoIter: ExactSizeIterator>,
) -> Option<Vec<u64>> {
    // SAFETY: the rules load from objects what they have tested to be there, and the
    // columns keep them alive.
    let mut machine = unsafe { Machine::new() };
    let mut live = Live { host: &mut machine };
    let objects = objects.into_iter();
    let mut words = Vec::new();
    words.try_reserve_exact(objects.len()).ok()?;
    for object in objects {
        words.push(turns::unbox(&mut live, &runtime.known, arg, object)?);
    }
    Some(words)
}

/// Whether integers of 64 bits are all exact as doubles, having 53 bits at most.
fn is_exact(view: &View, unsigned: bool) -> bool {
    const MOST: u64 = 1 << 53;
    let below = if unsigned { 0 } else { MOST };
    // SAFETY: what is loaded are items of a column.
    let mut machine = unsafe { Machine::new() };
    (0..view.len() as i64).all(|index| {
        let place = view.start().wrapping_add_signed(index * view.stride as i64);
        machine.load(Mem::I64, place).wrapping_add(below) <= MOST + below
    })
}
