//! The loops of a call site: what each is compiled for, and how it is compiled.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use hotcall_asm::Stub;
use hotcall_core::PreparedCall;
use hotcall_tracer::{Helper, Host, Mem, Ops, Recorder, Shape, optimize};

use crate::declare::Declaration;
use crate::options::Log;
use crate::rules::turns::{self, Item, Places, Turn};
use crate::runtime::{CallSite, Runtime};

/// How many places come before those of the items: target, errno, result.
pub(super) const FIXED: usize = 3;
/// Which of them is that of the result.
const RESULT: usize = 2;

/// The loops of a call site.
#[derive(Debug, Default)]
pub(crate) struct Loops {
    /// How many items there were to call for.
    seen: AtomicU64,
    shapes: Mutex<Vec<(Form, Shape<Stub>)>>,
}

/// What a loop is compiled for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Form {
    /// What the columns have, one for each argument.
    pub(super) items: Vec<Item>,
    /// What results become; none if there are none.
    pub(super) result: Option<Item>,
    /// How far apart the items are, those of [`FIXED`] places first.
    pub(super) strides: Vec<i32>,
}

impl Loops {
    /// Counts items that there were to call for; gives how many there have been.
    pub(super) fn count(&self, items: usize) -> u64 {
        self.seen.fetch_add(items as u64, Relaxed) + items as u64
    }

    /// What was compiled, oldest first, with what each is for in words.
    pub(crate) fn shapes(&self) -> Vec<(Vec<String>, Shape<Stub>)> {
        let shapes = self.lock();
        shapes.iter().map(|(form, shape)| (form.describe(), shape.clone())).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(Form, Shape<Stub>)>> {
        self.shapes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The stub for `form`, which `make` makes if there is none and may be one more.
    pub(super) fn find_or(
        &self,
        form: &Form,
        most: usize,
        make: impl FnOnce() -> Option<Shape<Stub>>,
    ) -> Option<Stub> {
        let shapes = self.lock();
        let found = shapes.iter().find(|(known, _)| known == form);
        if found.is_some() || shapes.len() >= most {
            return found.map(|(_, shape)| shape.stub.clone());
        }
        drop(shapes);
        let shape = make()?;
        let stub = shape.stub.clone();
        self.lock().push((form.clone(), shape));
        Some(stub)
    }
}

impl Form {
    /// What each argument is taken from, and what becomes of results.
    fn describe(&self) -> Vec<String> {
        let strides = &self.strides[FIXED..];
        let column = |(index, (item, stride)): (usize, (&Item, &i32))| {
            format!("column[{index}]: {item}, {stride} bytes apart")
        };
        let columns = self.items.iter().zip(strides).enumerate().map(column);
        let result = match self.result {
            None => "results: none".to_owned(),
            Some(item) => format!("results: {item}, {} bytes apart", self.strides[RESULT]),
        };
        columns.chain([result]).collect()
    }
}

/// Compiles a loop of this form, which the site keeps; none if there is none.
pub(super) fn compile(
    runtime: &Runtime,
    site: &CallSite,
    declaration: &Declaration,
    form: &Form,
) -> Option<Shape<Stub>> {
    let mut blank = Blank;
    let words = vec![0; FIXED + form.items.len()];
    let (mut recorder, params) = Recorder::enter_with(&mut blank, &words);
    let (fixed, items) = params.split_at(FIXED);
    let places = Places { target: fixed[0], errno: fixed[1], result: fixed[RESULT], items };
    let turn = Turn { declaration, items: &form.items, result: form.result };
    turns::turn(&mut recorder, &runtime.known, &turn, places)?;
    let end = recorder.constant(0);
    let trace = optimize(recorder.finish(end)?);
    runtime.log(Log::Trace, || format!("{}: loop\n{trace}", site.name));
    match runtime.jit.compile_loop(&trace, &form.strides) {
        Ok(stub) => {
            let name = format!("{} (loop)", site.name);
            runtime.log(Log::Events, || format!("{name}: {} bytes of code", stub.len()));
            runtime.tell(&name, &stub);
            Some(Shape { trace, stub })
        }
        Err(refusal) => {
            runtime.log(Log::Events, || format!("{}: no loop, {refusal}", site.name));
            None
        }
    }
}

/// Words that come to nothing: a turn can be recorded without being run.
struct Blank;

impl Host for Blank {
    fn thread(&mut self) -> u64 {
        0
    }

    fn scratch(&mut self, _: u64) -> u64 {
        0
    }

    fn load(&mut self, _: Mem, _: u64) -> u64 {
        0
    }

    fn store(&mut self, _: Mem, _: u64, _: u64) {}

    fn help(&mut self, _: &'static Helper, _: &[u64]) -> u64 {
        0
    }

    fn call(&mut self, _: &PreparedCall, _: u64, _: &[u64]) -> u64 {
        0
    }
}
