//! Columns: where the arguments of a loop come from.

use hotcall_tracer::Mem;
use pyo3::buffer::{ElementType, PyUntypedBuffer};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::rules::turns::Number;

/// The arguments of a loop at one place.
#[derive(Debug)]
pub(super) enum Column {
    /// This object each time.
    Same(Py<PyAny>),
    /// These objects.
    Objects(Py<PyTuple>),
    /// What lies in memory.
    Memory(View),
}

impl Column {
    /// The column of what was given: an object that is the `same` each time, a buffer,
    /// or a tuple; none if it is something else.
    pub(super) fn of(given: &Bound<'_, PyAny>, same: bool) -> Option<Column> {
        if same {
            return Some(Column::Same(given.clone().unbind()));
        }
        match given.cast_exact::<PyTuple>() {
            Ok(objects) => Some(Column::Objects(objects.clone().unbind())),
            Err(_) => View::of(given).map(Column::Memory),
        }
    }

    /// Whether it has as many items, if it has an end.
    pub(super) fn has(&self, py: Python<'_>, count: usize) -> bool {
        match self {
            Column::Same(_) => true,
            Column::Objects(objects) => objects.bind(py).len() == count,
            Column::Memory(view) => view.len() == count,
        }
    }
}

/// Items that lie in memory at one distance from each other.
#[derive(Debug)]
pub(super) struct View {
    /// Keeps the memory where it is.
    buffer: PyUntypedBuffer,
    /// What an item is, if it is a number of this machine.
    pub(super) number: Option<Number>,
    pub(super) stride: isize,
}

impl View {
    /// The memory of an object, if that is a buffer of one dimension.
    pub(super) fn of(object: &Bound<'_, PyAny>) -> Option<View> {
        let buffer = PyUntypedBuffer::get(object).ok()?;
        let (&[stride], None) = (buffer.strides(), buffer.suboffsets()) else { return None };
        let number = number(&buffer);
        Some(View { buffer, number, stride })
    }

    /// How many items there are.
    pub(super) fn len(&self) -> usize {
        self.buffer.shape()[0]
    }

    /// The address of the first item.
    pub(super) fn start(&self) -> u64 {
        self.buffer.buf_ptr().expose_provenance() as u64
    }

    /// Whether items may be written.
    pub(super) fn is_writable(&self) -> bool {
        !self.buffer.readonly()
    }

    /// Whether the two have bytes in common, but not the same items.
    pub(super) fn is_shifted(&self, other: &View) -> bool {
        let same = (self.start(), self.stride, self.buffer.item_size())
            == (other.start(), other.stride, other.buffer.item_size());
        let ((start, end), (from, to)) = (self.bounds(), other.bounds());
        !same && start < to && from < end
    }

    /// The first byte that belongs to it, and the first behind it.
    fn bounds(&self) -> (i128, i128) {
        let first = i128::from(self.start());
        let last = first + self.len().saturating_sub(1) as i128 * self.stride as i128;
        (first.min(last), first.max(last) + self.buffer.item_size() as i128)
    }
}

/// What the items of a buffer are, if they are numbers of this machine.
fn number(buffer: &PyUntypedBuffer) -> Option<Number> {
    let format = buffer.format();
    // A memoryview refuses items of `<`, which ctypes' arrays have.
    let is_foreign = matches!(format.to_bytes(), [b'<' | b'>' | b'!', ..] | [.., b'c']);
    let (number, bytes) = match ElementType::from_format(format) {
        _ if is_foreign => return None,
        ElementType::Bool => (Number::Truth, 1),
        ElementType::Float { bytes: 8 } => (Number::Double, 8),
        ElementType::Float { bytes: 4 } => (Number::Single, 4),
        ElementType::SignedInteger { bytes } => {
            let mem = [Mem::I8, Mem::I16, Mem::I32, Mem::I64];
            (Number::Int(*mem.get(bytes.ilog2() as usize)?, false), bytes)
        }
        ElementType::UnsignedInteger { bytes } => {
            let mem = [Mem::U8, Mem::U16, Mem::U32, Mem::I64];
            (Number::Int(*mem.get(bytes.ilog2() as usize)?, true), bytes)
        }
        _ => return None,
    };
    (bytes == buffer.item_size()).then_some(number)
}
