//! What libffi is told of C types.

use std::collections::BTreeMap;
use std::ptr;
use std::sync::{Mutex, PoisonError};

use libffi::low::{ffi_type, types};

use crate::{Abi, CType, Class, Error, Signature, StructType};

/// Refuses what is described in a way that is right for x86-64 alone: structs by the
/// words that they are passed in there, and variadic functions like others.
pub(super) fn check(signature: &Signature) -> Result<(), Error> {
    let is_plain = !signature.has_structs() && signature.fixed().is_none();
    match cfg!(target_arch = "x86_64") || is_plain {
        true => Ok(()),
        false => Err(Error::OtherProcessor { signature: signature.clone() }),
    }
}

/// libffi's description of a struct that is passed in words of these classes, in
/// memory if there are none: of the size that we pass, and with elements that
/// libffi classifies as we do. It is made once and lives as long as the process.
fn struct_description(of: &'static StructType, words: &'static [Class]) -> *mut ffi_type {
    static MADE: Mutex<BTreeMap<usize, usize>> = Mutex::new(BTreeMap::new());
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    let address = made.entry(ptr::from_ref(of).addr()).or_insert_with(|| {
        let element = |class: &Class| match class {
            Class::Int => &raw mut types::uint64,
            _ => &raw mut types::double,
        };
        let (elements, size, alignment) = match words.len() {
            // More than two words of which the first is an integer: in memory.
            0 => (vec![&raw mut types::uint64], of.size(), of.align()),
            count => (words.iter().map(element).collect(), 8 * count, of.align().max(8)),
        };
        let elements = elements.into_iter().chain([ptr::null_mut()]).collect::<Vec<_>>();
        let description = ffi_type {
            size,
            alignment: alignment as u16,
            type_: libffi::raw::FFI_TYPE_STRUCT,
            elements: elements.leak().as_mut_ptr(),
        };
        (&raw mut *Box::leak(Box::new(description))).expose_provenance()
    });
    ptr::with_exposed_provenance_mut(*address)
}

/// libffi's description of a type; `None` if its values do not fit in a word.
pub(super) fn description(ctype: CType, abi: Abi) -> Option<*mut ffi_type> {
    Some(match ctype {
        // In Win64 a struct is a word, or else its address is passed.
        CType::Struct(_) if abi == Abi::Win64 => &raw mut types::uint64,
        CType::Struct(of) => struct_description(of, of.words(abi)),
        CType::Void => &raw mut types::void,
        CType::Bool | CType::U8 => &raw mut types::uint8,
        CType::I8 => &raw mut types::sint8,
        CType::I16 => &raw mut types::sint16,
        CType::U16 => &raw mut types::uint16,
        CType::I32 => &raw mut types::sint32,
        CType::U32 => &raw mut types::uint32,
        CType::I64 => &raw mut types::sint64,
        CType::U64 => &raw mut types::uint64,
        CType::F32 => &raw mut types::float,
        CType::F64 => &raw mut types::double,
        CType::Pointer => &raw mut types::pointer,
        CType::LongDouble => return None,
    })
}
