//! Structs that are passed and returned by value: their layout, and what each
//! convention makes of it.

use std::collections::{HashMap, HashSet};
use std::error;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ptr;
use std::sync::{Mutex, PoisonError};

use crate::types::{CType, Class};
use crate::{Abi, Error};

/// A struct by value. There is one of each layout in a process, and it lives
/// as long as that: equal layouts are the same type.
#[derive(Debug)]
pub struct StructType {
    size: usize,
    align: usize,
    fields: Box<[(usize, CType)]>,
    /// How many structs are nested in it, itself included.
    depth: usize,
    /// The classes of its eightbytes by System V; none if it is in memory.
    eightbytes: Box<[Class]>,
}

/// Why a struct cannot be passed by value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StructError {
    /// It has no fields, or no size: compilers differ on such structs.
    Empty,
    /// A field is void.
    Void,
    /// A field is a long double.
    LongDouble,
    /// A field of a struct that fits registers is not aligned, or 8 bytes of it
    /// are padding, at this offset in bytes: compilers differ on such structs.
    Odd {
        /// Bytes from the start of the struct.
        offset: usize,
    },
    /// Structs are nested more than 64 deep.
    Deep,
    /// It is aligned to more than 16 bytes, as the stack is: callers and callees do
    /// not agree on where such structs are.
    Aligned,
    /// The alignment is not a power of two, or the size not a multiple of it,
    /// or a field lies outside.
    Layout,
}

/// The size of the parts in which System V looks at a struct, in bytes.
const EIGHTBYTE: usize = 8;
/// Structs may be nested so deeply: whoever walks through one may recurse.
const DEEPEST: usize = 64;
/// A larger struct is in memory.
const MOST_IN_REGISTERS: usize = 2 * EIGHTBYTE;
/// The stack is aligned so at a call, in bytes.
const MOST_ALIGNED: usize = 16;

/// What makes two structs the same type: size, alignment and fields.
type Layout = (usize, usize, &'static [(usize, CType)]);

impl StructType {
    /// The struct with these fields, laid out as C does: each at the next
    /// multiple of its alignment.
    ///
    /// # Errors
    /// A [`StructError`] for what cannot be passed.
    pub fn of(fields: &[CType]) -> Result<&'static StructType, Error> {
        let (mut end, mut align) = (0_usize, 1);
        let mut laid_out = Vec::with_capacity(fields.len());
        for field in fields {
            let offset = end.checked_next_multiple_of(field.align()).ok_or(StructError::Layout)?;
            laid_out.push((offset, *field));
            end = offset.checked_add(field.size()).ok_or(StructError::Layout)?;
            align = align.max(field.align());
        }
        let size = end.checked_next_multiple_of(align).ok_or(StructError::Layout)?;
        StructType::with_layout(laid_out, size, align)
    }

    /// The struct of this size and alignment, with fields at these offsets, all
    /// in bytes. Fields may overlap.
    ///
    /// # Errors
    /// A [`StructError`] for what cannot be passed.
    ///
    /// Source: System V ABI, AMD64 supplement, section 3.2.3, "Classification".
    pub fn with_layout(
        fields: Vec<(usize, CType)>,
        size: usize,
        align: usize,
    ) -> Result<&'static StructType, Error> {
        let inner = fields.iter().filter_map(|(_, field)| Some(field.as_struct()?.depth));
        let depth = 1 + inner.max().unwrap_or(0);
        if depth > DEEPEST {
            return Err(StructError::Deep.into());
        }
        let eightbytes = classify(&fields, size, align)?.into();
        static ALL: Mutex<Option<HashMap<Layout, &'static StructType>>> = Mutex::new(None);
        let mut all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
        let all = all.get_or_insert_default();
        if let Some(known) = all.get(&(size, align, &fields[..])) {
            return Ok(known);
        }
        let made = StructType { size, align, fields: fields.into(), depth, eightbytes };
        let made: &'static StructType = Box::leak(Box::new(made));
        all.insert((size, align, &made.fields), made);
        Ok(made)
    }

    /// Its size in bytes.
    pub const fn size(&self) -> usize {
        self.size
    }

    /// Its alignment in bytes.
    pub const fn align(&self) -> usize {
        self.align
    }

    /// Its fields, each with its offset in bytes.
    pub fn fields(&self) -> &[(usize, CType)] {
        &self.fields
    }

    /// The classes of the words in which it is passed and returned, one for
    /// each 8 bytes; none if it is in memory.
    ///
    /// Source: as for [`StructType::with_layout`]; Microsoft, "x64 calling
    /// convention", sections "Parameter passing" and "Return values".
    pub fn words(&self, abi: Abi) -> &[Class] {
        match abi {
            Abi::SystemV => &self.eightbytes,
            Abi::Win64 if matches!(self.size, 1 | 2 | 4 | 8) => &[Class::Int],
            Abi::Win64 => &[],
        }
    }
}

/// There is one of each layout, so its address tells it from others.
impl PartialEq for StructType {
    fn eq(&self, other: &StructType) -> bool {
        ptr::eq(self, other)
    }
}

impl Eq for StructType {}

impl Hash for StructType {
    fn hash<H: Hasher>(&self, state: &mut H) {
        ptr::hash(self, state);
    }
}

/// The classes of the eightbytes; none if the struct is in memory.
fn classify(
    fields: &[(usize, CType)],
    size: usize,
    align: usize,
) -> Result<Vec<Class>, StructError> {
    if fields.is_empty() || size == 0 {
        return Err(StructError::Empty);
    }
    let end = |(offset, field): &(usize, CType)| offset.checked_add(field.size());
    let inside = |field: &(usize, CType)| end(field).is_some_and(|end| end <= size);
    if !align.is_power_of_two() || !size.is_multiple_of(align) || !fields.iter().all(inside) {
        return Err(StructError::Layout);
    }
    if align > MOST_ALIGNED {
        return Err(StructError::Aligned);
    }
    let in_registers = size <= MOST_IN_REGISTERS;
    let mut classes = vec![Class::None; size.min(MOST_IN_REGISTERS).div_ceil(EIGHTBYTE)];
    let mut odd = None;
    let mut rest: Vec<(usize, CType)> = fields.to_vec();
    // Fields that overlap may lead to the same struct again and again.
    let mut seen = HashSet::new();
    while let Some((offset, ctype)) = rest.pop() {
        let mut elsewhere = Class::None;
        let word = classes.get_mut(offset / EIGHTBYTE).unwrap_or(&mut elsewhere);
        match ctype.class() {
            Class::None => return Err(StructError::Void),
            Class::X87 => return Err(StructError::LongDouble),
            // What it is made of was looked at when it was made.
            Class::Struct if !in_registers || !seen.insert((offset, ctype)) => continue,
            Class::Struct => {
                let inner = ctype.as_struct().map_or(&[][..], StructType::fields);
                rest.extend(inner.iter().map(|(inner, ctype)| (offset + inner, *ctype)));
                continue;
            }
            Class::Int => *word = Class::Int,
            Class::Float32 | Class::Float64 if *word == Class::None => *word = Class::Float64,
            Class::Float32 | Class::Float64 => {}
        }
        if !offset.is_multiple_of(ctype.align()) {
            odd = Some(offset);
        }
    }
    if !in_registers {
        return Ok(Vec::new());
    }
    let padding = classes.iter().position(|class| *class == Class::None);
    match odd.or(padding.map(|word| word * EIGHTBYTE)) {
        Some(offset) => Err(StructError::Odd { offset }),
        None => Ok(classes),
    }
}

impl CType {
    /// The struct with these fields, laid out as C does.
    ///
    /// ```
    /// use hotcall_core::CType;
    ///
    /// #[repr(C)]
    /// struct Event {
    ///     kind: u8,
    ///     at: f64,
    /// }
    ///
    /// let event = CType::struct_of(&[CType::U8, CType::F64])?;
    /// assert_eq!((event.size(), event.align()), (size_of::<Event>(), align_of::<Event>()));
    /// assert_eq!(event.as_struct().unwrap().fields()[1].0, std::mem::offset_of!(Event, at));
    /// # Ok::<(), hotcall_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Struct`] for what cannot be passed by value.
    pub fn struct_of(fields: &[CType]) -> Result<CType, Error> {
        StructType::of(fields).map(CType::Struct)
    }

    /// The struct that this is, if it is one.
    pub const fn as_struct(self) -> Option<&'static StructType> {
        match self {
            CType::Struct(of) => Some(of),
            _ => None,
        }
    }

    /// The classes of the words in which a value is passed and returned by
    /// `abi`; empty for void, and for a struct in memory.
    pub fn classes(&self, abi: Abi) -> &[Class] {
        match self {
            CType::Struct(of) => of.words(abi),
            CType::Void => &[],
            CType::F32 => &[Class::Float32],
            CType::F64 => &[Class::Float64],
            CType::LongDouble => &[Class::X87],
            _ => &[Class::Int],
        }
    }

    /// How many words an argument of a call takes: one for each 8 bytes of a
    /// struct that fits registers, and else one. The word of a struct in memory
    /// is its address.
    pub fn words(&self, abi: Abi) -> usize {
        self.classes(abi).len().max(1)
    }

    /// Whether the caller of a function with this result gives the memory for
    /// it, as an argument before the others.
    pub fn is_returned_in_memory(&self, abi: Abi) -> bool {
        self.as_struct().is_some_and(|of| of.words(abi).is_empty())
    }
}

/// Prints the fields, as in `{i32, f64}`; those of a layout that is not C's
/// with their offsets.
impl fmt::Display for StructType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fields: Vec<CType> = self.fields.iter().map(|(_, ctype)| *ctype).collect();
        let natural = StructType::of(&fields).is_ok_and(|natural| natural == self);
        f.write_str("{")?;
        for (index, (offset, ctype)) in self.fields.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            match natural {
                true => write!(f, "{comma}{ctype}")?,
                false => write!(f, "{comma}{ctype} @{offset}")?,
            }
        }
        match natural {
            true => f.write_str("}"),
            false => write!(f, "; size {}, align {}}}", self.size, self.align),
        }
    }
}

impl fmt::Display for StructError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StructError::Empty => {
                write!(f, "a struct without fields or size has no place in a call")
            }
            StructError::Deep => write!(f, "structs are nested more than {DEEPEST} deep"),
            StructError::Void => write!(f, "a field of a struct is void, which is no value"),
            StructError::LongDouble => write!(f, "a field of a struct is a long double"),
            StructError::Odd { offset } => {
                write!(f, "a field is unaligned, or padding fills 8 bytes, at offset {offset}")
            }
            StructError::Aligned => {
                write!(f, "a struct is aligned to more than {MOST_ALIGNED} bytes")
            }
            StructError::Layout => {
                write!(f, "the size is no multiple of the alignment, or a field lies outside")
            }
        }
    }
}

impl error::Error for StructError {}

#[cfg(test)]
mod tests;
