//! The rules of arguments: from an object, and what is declared for it, to the
//! canonical word that the foreign function gets.
//!
//! A rule first finds out the object's class and guards it; all else follows
//! from what is known of the class. Where ctypes asks `isinstance` and the
//! answer could come from Python code, the call is refused.

use hotcall_core::CType;
use hotcall_tracer::{Field, Ops, Refusal, Symbol};

use crate::classes::{Class, Family};
use crate::declare::{Arg, ArgRule, Kind};
use crate::known::Known;
use crate::layout::{self, InfoHome};
use crate::refusals;
use crate::rules::{has_version, numbers};

/// An argument, and what is known of its class, which is guarded.
pub(super) struct Given<'a, W> {
    pub(super) object: W,
    class_word: W,
    pub(super) class: &'a Class,
}

impl<W: Copy> Given<'_, W> {
    /// Whether the object is an instance of the class at `address`, in the way
    /// in which `isinstance` would find out without running Python code.
    fn is_instance(&self, address: u64) -> Result<bool, Refusal> {
        if self.class.symbol.address == address {
            return Ok(true);
        }
        let derives = self.class.derives_from(address);
        match derives || self.class.is_plain {
            true => Ok(derives),
            false => Err(refusals::SURPRISING),
        }
    }

    /// Guards that the class is what was learned: this class, and as it was.
    fn guard<O: Ops<Word = W>>(&self, o: &mut O, known: &Known) -> Result<(), Refusal> {
        let Some(version) = self.class.version else { return Ok(()) };
        if version == 0 || !has_version(o, self.class_word, version) {
            return Err(refusals::NEW_CLASS);
        }
        match self.class.family {
            Family::Pointer(target) | Family::Array(target) => {
                guard_target(o, known, self.class_word, target)
            }
            _ => Ok(()),
        }
    }

    /// The value of an instance of a simple type.
    fn value<O: Ops<Word = W>>(&self, o: &mut O, kind: Kind) -> W {
        let memory = o.load(self.object, layout::CDATA_POINTER);
        o.load(memory, kind.field())
    }

    /// The address that an array, pointer, function or reference stands for.
    fn address<O: Ops<Word = W>>(&self, o: &mut O, known: &Known) -> Result<W, Refusal> {
        match self.class.family {
            Family::Reference => {
                let tag = match known.layout.reference_tag_is_text {
                    false => o.load(self.object, layout::REFERENCE_TAG),
                    true => {
                        let text = o.load(self.object, layout::REFERENCE_TAG_TEXT);
                        o.load(text, layout::TEXT_FIRST)
                    }
                };
                match o.test_is(tag, b'P'.into()) {
                    true => Ok(o.load(self.object, layout::REFERENCE_VALUE)),
                    false => Err(refusals::VALUE),
                }
            }
            Family::Array(_) | Family::Record => Ok(o.load(self.object, layout::CDATA_POINTER)),
            _ => Ok(self.value(o, Kind::VoidP)),
        }
    }

    /// The address of the first byte of a bytes object.
    fn bytes<O: Ops<Word = W>>(&self, o: &mut O) -> W {
        let first = o.constant(layout::BYTES_FIRST.offset as u64);
        o.add(self.object, first)
    }
}

/// Finds out and guards the class of `object`, then goes on with `act`.
fn with_class<O: Ops, R>(
    o: &mut O,
    known: &Known,
    object: O::Word,
    act: impl FnOnce(&mut O, &Given<'_, O::Word>) -> Result<R, Refusal>,
) -> Result<R, Refusal> {
    let class_word = o.load(object, layout::OB_TYPE);
    let class = known.classes.find(o.peek(class_word)).ok_or(refusals::NEW_CLASS)?;
    let same = o.is(class_word, &class.symbol);
    debug_assert!(same, "the class was found by its address");
    let given = Given { object, class_word, class: &class };
    given.guard(o, known)?;
    act(o, &given)
}

/// Guards what a pointer or array class is made of: `set_type` of a pointer
/// class changes it, without giving the class another version.
fn guard_target<O: Ops>(
    o: &mut O,
    known: &Known,
    class_word: O::Word,
    target: u64,
) -> Result<(), Refusal> {
    let layout = &known.layout;
    let found = match layout.info_home {
        InfoHome::Dict => {
            let info = o.load(class_word, layout::TYPE_DICT);
            o.load(info, layout.info_proto)
        }
        InfoHome::Type(offset) => {
            let proto = layout.info_proto;
            o.load(class_word, Field { offset: offset + proto.offset, ..proto })
        }
    };
    match o.is(found, &Symbol { name: "target".into(), address: target }) {
        true => Ok(()),
        false => Err(refusals::TARGET),
    }
}

/// The word for `object` as an argument declared as `arg`.
pub(super) fn take<O: Ops>(
    o: &mut O,
    known: &Known,
    arg: &Arg,
    object: O::Word,
) -> Result<O::Word, Refusal> {
    with_class(o, known, object, |o, given| {
        let address = arg.class.address;
        match arg.rule {
            ArgRule::Simple(Kind::CharP) => characters(o, known, given, address, Kind::Char),
            ArgRule::Simple(Kind::WCharP) => characters(o, known, given, address, Kind::WChar),
            ArgRule::Simple(Kind::VoidP) => void_pointer(o, known, given, address),
            ArgRule::Simple(Kind::Object) => object_pointer(o, given, address),
            ArgRule::Simple(kind) => simple(o, known, given, address, kind),
            ArgRule::Pointer(target) => pointer(o, known, given, &arg.class, target),
            ArgRule::Array(item) => array(o, known, given, address, item),
            ArgRule::Function => match given.is_instance(address)? {
                true => given.address(o, known),
                false => Err(refusals::VALUE),
            },
        }
    })
}

/// The word for `object` as an argument that nothing is declared for, and the
/// C type as which ctypes passes it.
pub(super) fn take_undeclared<O: Ops>(
    o: &mut O,
    known: &Known,
    object: O::Word,
) -> Result<(O::Word, CType), Refusal> {
    with_class(o, known, object, |o, given| {
        let address = match given.class.family {
            Family::None => o.constant(0),
            Family::Int => return Ok((numbers::c_int(o, known, object)?, CType::I32)),
            Family::Simple(Kind::LongDouble) => return Err(refusals::LONG_DOUBLE),
            Family::Simple(kind) => return Ok((given.value(o, kind), kind.ctype())),
            Family::Bytes => given.bytes(o),
            Family::Record => return Err(refusals::BY_VALUE),
            Family::Float | Family::Str | Family::Other => return Err(refusals::VALUE),
            _ => given.address(o, known)?,
        };
        Ok((address, CType::Pointer))
    })
}

/// A number, a truth or a character.
fn simple<O: Ops>(
    o: &mut O,
    known: &Known,
    given: &Given<'_, O::Word>,
    declared: u64,
    kind: Kind,
) -> Result<O::Word, Refusal> {
    let (object, family) = (given.object, given.class.family);
    if matches!(family, Family::Simple(own) if own == kind) && given.is_instance(declared)? {
        return Ok(given.value(o, kind));
    }
    match (kind, family) {
        (Kind::Int(_), Family::Int) => {
            let word = numbers::integer(o, known, object);
            Ok(o.extend(kind.field().mem, word))
        }
        (Kind::F64, _) => numbers::double(o, known, object, family),
        (Kind::F32, _) => {
            let double = numbers::double(o, known, object, family)?;
            Ok(o.demote(double))
        }
        (Kind::Bool, _) => numbers::truth(o, known, object, family),
        (Kind::Char, _) => numbers::character(o, known, object, family),
        (Kind::WChar, Family::Str) => numbers::wide_character(o, object),
        _ => Err(refusals::VALUE),
    }
}

/// None, bytes, an instance, or what points to characters.
fn characters<O: Ops>(
    o: &mut O,
    known: &Known,
    given: &Given<'_, O::Word>,
    declared: u64,
    character: Kind,
) -> Result<O::Word, Refusal> {
    match given.class.family {
        Family::None => return Ok(o.constant(0)),
        Family::Bytes if character == Kind::Char => return Ok(given.bytes(o)),
        _ => {}
    }
    if given.is_instance(declared)? {
        return given.address(o, known);
    }
    let of_character = match given.class.family {
        Family::Array(item) | Family::Pointer(item) => known.is_kind(item, character),
        Family::Reference => referent(o, known, given, |_, given| {
            Ok(given.class.family == Family::Simple(character))
        })?,
        _ => false,
    };
    match of_character {
        true => given.address(o, known),
        false => Err(refusals::VALUE),
    }
}

/// None, an int, bytes, an instance, or whatever ctypes has an address for.
fn void_pointer<O: Ops>(
    o: &mut O,
    known: &Known,
    given: &Given<'_, O::Word>,
    declared: u64,
) -> Result<O::Word, Refusal> {
    match given.class.family {
        Family::None => return Ok(o.constant(0)),
        Family::Int => return Ok(numbers::integer(o, known, given.object)),
        Family::Bytes => return Ok(given.bytes(o)),
        _ => {}
    }
    if given.is_instance(declared)? {
        return given.address(o, known);
    }
    match given.class.family {
        Family::Array(_)
        | Family::Pointer(_)
        | Family::Function
        | Family::Reference
        | Family::Simple(Kind::CharP | Kind::WCharP) => given.address(o, known),
        _ => Err(refusals::VALUE),
    }
}

/// The object itself, or what an instance refers to.
fn object_pointer<O: Ops>(
    o: &mut O,
    given: &Given<'_, O::Word>,
    declared: u64,
) -> Result<O::Word, Refusal> {
    match given.is_instance(declared)? {
        true => Ok(given.value(o, Kind::Object)),
        false => Ok(given.object),
    }
}

/// None, an instance of the target, a pointer, array or reference to one.
fn pointer<O: Ops>(
    o: &mut O,
    known: &Known,
    given: &Given<'_, O::Word>,
    declared: &Symbol,
    target: u64,
) -> Result<O::Word, Refusal> {
    if given.class.family == Family::None {
        return Ok(o.constant(0));
    }
    let class_word = o.symbol(declared);
    guard_target(o, known, class_word, target)?;
    if given.is_instance(target)? {
        return Ok(o.load(given.object, layout::CDATA_POINTER));
    }
    let points = match given.class.family {
        // Of another item type: `issubclass` is for ctypes to ask.
        Family::Pointer(item) | Family::Array(item) => item == target,
        Family::Reference => referent(o, known, given, |_, given| given.is_instance(target))?,
        _ => false,
    };
    match points || given.is_instance(declared.address)? {
        true => given.address(o, known),
        false => Err(refusals::VALUE),
    }
}

/// An instance of the array type, or a reference to an item.
fn array<O: Ops>(
    o: &mut O,
    known: &Known,
    given: &Given<'_, O::Word>,
    declared: u64,
    item: u64,
) -> Result<O::Word, Refusal> {
    let fits = given.is_instance(declared)?
        || given.class.family == Family::Reference
            && referent(o, known, given, |_, given| given.is_instance(item))?;
    match fits {
        true => given.address(o, known),
        false => Err(refusals::VALUE),
    }
}

/// Asks `ask` of the object that a reference was made of.
fn referent<O: Ops>(
    o: &mut O,
    known: &Known,
    given: &Given<'_, O::Word>,
    ask: impl FnOnce(&mut O, &Given<'_, O::Word>) -> Result<bool, Refusal>,
) -> Result<bool, Refusal> {
    let object = o.load(given.object, known.layout.reference_object);
    match o.test_is(object, 0) {
        true => Err(refusals::VALUE),
        false => with_class(o, known, object, ask),
    }
}
