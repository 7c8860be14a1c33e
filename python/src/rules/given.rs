//! An argument, and what is known of its class: every rule begins by finding
//! out and guarding the class, and goes on with what follows from it.

use hotcall_tracer::{Field, Ops, Refusal, Symbol};

use crate::classes::{Class, Family};
use crate::declare::{ArgRule, Kind};
use crate::known::Known;
use crate::layout::{self, InfoHome};
use crate::refusals;
use crate::rules::has_version;

/// An argument, and what is known of its class, which is guarded.
pub(super) struct Given<'a, W> {
    pub(super) object: W,
    class_word: W,
    pub(super) class: &'a Class,
}

impl<W: Copy> Given<'_, W> {
    /// Whether the object is an instance of the class at `address`, in the way
    /// in which `isinstance` would find out without running Python code.
    pub(super) fn is_instance(&self, address: u64) -> Result<bool, Refusal> {
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
    pub(super) fn value<O: Ops<Word = W>>(&self, o: &mut O, kind: Kind) -> W {
        let memory = o.load(self.object, layout::CDATA_POINTER);
        o.load(memory, kind.field())
    }

    /// The address that an array, pointer, function or reference stands for.
    pub(super) fn address<O: Ops<Word = W>>(&self, o: &mut O, known: &Known) -> Result<W, Refusal> {
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

    /// Whether an argument of this rule is a value from the object's memory, and
    /// neither the object's address nor its memory's.
    pub(super) fn is_copied(&self, rule: ArgRule) -> Result<bool, Refusal> {
        match (self.class.family, rule) {
            (Family::Simple(own), ArgRule::Simple(Kind::Object)) => Ok(own == Kind::Object),
            (Family::Simple(_) | Family::Pointer(_), ArgRule::Pointer(target)) => {
                Ok(!self.is_instance(target)?)
            }
            (Family::Record, rule) => Ok(!matches!(rule, ArgRule::Pointer(_))),
            (Family::Simple(_) | Family::Pointer(_) | Family::Function, _) => Ok(true),
            _ => Ok(false),
        }
    }

    /// Whether what is made of it now is what any later call would make of it: it is
    /// no instance of ctypes, whose value may change and whose memory may move.
    pub(super) fn is_lasting(&self) -> bool {
        use Family::{Bytes, Float, Int, IntSubclass, None, Reference, Str};
        matches!(self.class.family, None | Int | IntSubclass | Float | Bytes | Str | Reference)
    }

    /// The address of the first byte of a bytes object.
    pub(super) fn bytes<O: Ops<Word = W>>(&self, o: &mut O) -> W {
        let first = o.constant(layout::BYTES_FIRST.offset as u64);
        o.add(self.object, first)
    }
}

/// Finds out and guards the class of `object`, then goes on with `act`.
pub(super) fn with_class<O: Ops, R>(
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
pub(super) fn guard_target<O: Ops>(
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

/// Asks `ask` of the object that a reference was made of.
pub(super) fn referent<O: Ops>(
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
