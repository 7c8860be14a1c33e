//! The rules of arguments: from an object, and what is declared for it, to the
//! canonical word that the foreign function gets.
//!
//! Where ctypes asks `isinstance` and the answer could come from Python code,
//! the call is refused.

use hotcall_core::{Abi, CType};
use hotcall_tracer::{Ops, Refusal, Symbol};
use smallvec::{SmallVec, smallvec};

use crate::classes::Family;
use crate::declare::{Arg, ArgRule, Kind};
use crate::detour::Ahead;
use crate::known::Known;
use crate::layout;
use crate::memory::WIDE_SIZE;
use crate::observers::{self, Identity, OBSERVED};
use crate::refusals;
use crate::rules::copies::Copied;
use crate::rules::given::{Given, guard_target, referent, with_class};
use crate::rules::numbers;

/// What has become of an argument.
pub(super) enum Argument<W> {
    /// It can be passed.
    Passed(Passed<W>),
    /// Python code has to run first.
    Ahead(Ahead),
}

/// An argument as the foreign function gets it.
pub(super) struct Passed<W> {
    /// Its canonical words: one, but for a structure in registers.
    pub(super) words: SmallVec<[W; 2]>,
    pub(super) ctype: CType,
    /// Whether the words come from memory that Python code may change.
    pub(super) is_copied: bool,
    /// Whether the end of a copy of the object may run code of the program's.
    pub(super) has_finaliser: bool,
    /// The copy whose address is passed, made of what the word says.
    pub(super) copy: Option<Copied<W>>,
}

/// Takes `object` as an argument declared as `arg`, or for which nothing is
/// declared. `observed` is what [`OBSERVED`] gave during this call.
pub(super) fn take<O: Ops>(
    o: &mut O,
    known: &Known,
    observed: &mut Option<O::Word>,
    arg: Option<&Arg>,
    object: O::Word,
) -> Result<Argument<O::Word>, Refusal> {
    if let Some(Arg { class, rule: ArgRule::Convert(identity) }) = arg
        && !is_left_out(o, *identity, observed)
    {
        return Ok(Argument::Ahead(Ahead::Convert(class.address)));
    }
    let declared = arg.filter(|arg| !arg.rule.is_open());
    with_class(o, known, object, |o, given| {
        if given.class.is_ordinary
            && let Some(ahead) = look_up(o, known, declared)?
        {
            return Ok(Argument::Ahead(ahead));
        }
        let rule = declared.map_or(ArgRule::Passed, |arg| arg.rule);
        if given.class.family == Family::Str && rule.takes_text() {
            return wide(o, given.object);
        }
        if given.class.family == Family::Record && (rule.is_open() || rule.is_record()) {
            return record(o, declared, given);
        }
        let (word, ctype) = match declared {
            Some(arg) => (take_declared(o, known, arg, given)?, arg.rule.ctype()),
            None => take_undeclared(o, known, given)?,
        };
        let (words, is_copied) = (smallvec![word], given.is_copied(rule)?);
        let has_finaliser = given.class.has_finaliser;
        Ok(Argument::Passed(Passed { words, ctype, is_copied, has_finaliser, copy: None }))
    })
}

/// A structure by value. What is passed depends on its own class, not on the
/// one that is declared.
fn record<O: Ops>(
    o: &mut O,
    declared: Option<&Arg>,
    given: &Given<'_, O::Word>,
) -> Result<Argument<O::Word>, Refusal> {
    if let Some(arg) = declared
        && !given.is_instance(arg.class.address)?
    {
        return Err(refusals::VALUE);
    }
    let of = given.class.passing.ok_or(refusals::BY_VALUE)?;
    let memory = o.load(given.object, layout::CDATA_POINTER);
    let count = of.words(Abi::HOST).len();
    let mut word = |nth: usize| o.load_bytes(memory, 8 * nth, (of.size() - 8 * nth).min(8));
    let (words, copy) = match count {
        0 => (smallvec![memory], Some(Copied::Bytes(of.size()))),
        _ => ((0..count).map(&mut word).collect(), None),
    };
    Ok(Argument::Passed(Passed {
        words,
        ctype: CType::Struct(of),
        is_copied: true,
        has_finaliser: given.class.has_finaliser,
        copy,
    }))
}

/// A str that is passed as a copy.
fn wide<O: Ops>(o: &mut O, text: O::Word) -> Result<Argument<O::Word>, Refusal> {
    let size = o.help(&WIDE_SIZE, &[text]);
    if o.test_is(size, 0) {
        return Err(refusals::VALUE);
    }
    let (words, copy) = (smallvec![text], Some(Copied::Text(size)));
    Ok(Argument::Passed(Passed {
        words,
        ctype: CType::Pointer,
        is_copied: false,
        has_finaliser: false,
        copy,
    }))
}

/// Whether a converter gives its argument back, and nobody could see it called.
fn is_left_out<O: Ops>(
    o: &mut O,
    identity: Option<Identity>,
    observed: &mut Option<O::Word>,
) -> bool {
    let Some(identity) = identity else { return false };
    let observed = *observed.get_or_insert_with(|| o.help(&OBSERVED, &[]));
    if !o.test_is(observed, 0) {
        return false;
    }
    let function = o.symbol(&Symbol { name: "from_param".into(), address: identity.function });
    let code = o.load(function, layout::FUNCTION_CODE);
    if !o.is(code, &Symbol { name: "identity".into(), address: identity.code }) {
        return false;
    }
    if !observers::monitors_code() {
        return true;
    }
    let monitoring = o.load(code, observers::CODE_MONITORING);
    o.test_is(monitoring, 0)
}

/// What ctypes does with an object that it does not know: some types look an
/// attribute up.
fn look_up<O: Ops>(
    o: &mut O,
    known: &Known,
    declared: Option<&Arg>,
) -> Result<Option<Ahead>, Refusal> {
    let Some(arg) = declared else { return Ok(Some(Ahead::LookUp(0))) };
    match arg.rule {
        ArgRule::Simple(Kind::Bool | Kind::Object) => Ok(None),
        ArgRule::Pointer(target) => {
            let class_word = o.symbol(&arg.class);
            guard_target(o, known, class_word, target)?;
            Ok(Some(Ahead::LookUp(arg.class.address)))
        }
        _ => Ok(Some(Ahead::LookUp(0))),
    }
}

/// The word for an argument that something is declared for.
fn take_declared<O: Ops>(
    o: &mut O,
    known: &Known,
    arg: &Arg,
    given: &Given<'_, O::Word>,
) -> Result<O::Word, Refusal> {
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
        ArgRule::Record(_) | ArgRule::Convert(_) | ArgRule::Passed => Err(refusals::VALUE),
    }
}

/// The word for an argument that nothing is declared for, and the C type as
/// which ctypes passes it.
fn take_undeclared<O: Ops>(
    o: &mut O,
    known: &Known,
    given: &Given<'_, O::Word>,
) -> Result<(O::Word, CType), Refusal> {
    let address = match given.class.family {
        Family::None => o.constant(0),
        Family::Int | Family::IntSubclass => {
            return Ok((numbers::c_int(o, known, given.object)?, CType::I32));
        }
        Family::Simple(Kind::LongDouble) => return Err(refusals::LONG_DOUBLE),
        Family::Simple(kind) => return Ok((given.value(o, kind), kind.ctype())),
        Family::Bytes => given.bytes(o),
        Family::Float | Family::Str | Family::Record | Family::Other => {
            return Err(refusals::VALUE);
        }
        _ => given.address(o, known)?,
    };
    Ok((address, CType::Pointer))
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
        (Kind::Int(_), Family::Int | Family::IntSubclass) => {
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
        Family::Int | Family::IntSubclass => return Ok(numbers::integer(o, known, given.object)),
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
