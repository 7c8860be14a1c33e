//! One turn of a loop over columns: an argument from the item of each column, the
//! foreign call, and its result to its place.
//!
//! **Invariant.** A turn decides nothing by what it reads: items are numbers in
//! memory, of which the columns say what they are, and none needs a guard. So it can
//! be recorded without being run, and it touches no object.

use std::fmt;
use std::sync::Arc;

use hotcall_core::{CType, PreparedCall};
use hotcall_tracer::{Field, Live, Mem, Ops};

use crate::classes::Family;
use crate::declare::{Arg, ArgRule, Declaration, Kind, ResultRule};
use crate::errno;
use crate::known::Known;
use crate::layout;
use crate::rules::args::{self, Argument};
use crate::rules::given::with_class;
use crate::rules::{numbers, results};

/// What an item of a column is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Item {
    /// What is passed, or was returned, as a canonical word.
    Word,
    /// A number.
    Number(Number),
}

/// A number in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Number {
    /// An integer of this type; `true` says that one of 64 bits has no sign.
    Int(Mem, bool),
    /// 0 for False, and anything else for True.
    Truth,
    Double,
    Single,
}

impl Number {
    /// Its place in memory.
    fn field(self) -> Field {
        let mem = match self {
            Number::Int(mem, _) => mem,
            Number::Truth => Mem::U8,
            Number::Double => Mem::F64,
            Number::Single => Mem::F32,
        };
        Field::new("item", 0, mem)
    }

    /// Whether it can be every value of the C integer `ctype`.
    fn holds(self, ctype: CType) -> bool {
        let Number::Int(mem, unsigned) = self else { return false };
        let (size, own) = (ctype.size(), mem.size() as usize);
        let signed = !unsigned && matches!(mem, Mem::I8 | Mem::I16 | Mem::I32 | Mem::I64);
        match (ctype.is_signed(), signed) {
            (true, true) | (false, false) => size <= own,
            (false, true) => size < own,
            (true, false) => false,
        }
    }
}

/// As memory has it: `word`, or the type of a number.
impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Item::Word => f.write_str("word"),
            Item::Number(Number::Int(Mem::I64, true)) => f.write_str("u64"),
            Item::Number(Number::Truth) => f.write_str("bool"),
            Item::Number(number) => {
                f.write_str(&format!("{:?}", number.field().mem).to_lowercase())
            }
        }
    }
}

/// What a turn does: the declaration of the function, and its columns.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    pub(crate) declaration: &'a Declaration,
    /// One for each argument.
    pub(crate) items: &'a [Item],
    /// What the result becomes; none if there is no result.
    pub(crate) result: Option<Item>,
}

/// The words of a turn: what does not change, and the addresses of items.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Places<'a, W> {
    /// The foreign function.
    pub(crate) target: W,
    /// The private errno of the thread.
    pub(crate) errno: W,
    /// The place of the result.
    pub(crate) result: W,
    /// The items.
    pub(crate) items: &'a [W],
}

/// Does one turn; none if a number does not do for an argument or for the result.
pub(crate) fn turn<O: Ops>(
    o: &mut O,
    known: &Known,
    turn: &Turn<'_>,
    places: Places<'_, O::Word>,
) -> Option<()> {
    let Turn { declaration, items, result } = turn;
    let given = declaration.args.iter().zip(*items).zip(places.items);
    let words = given.map(|((arg, item), place)| argument(o, arg.rule, *item, *place));
    let words = words.collect::<Option<Vec<_>>>()?;
    if declaration.use_errno {
        errno::swap(o, known.errno, places.errno);
    }
    let call: &Arc<PreparedCall> = &declaration.call;
    let value = o.call(call, places.target, &words);
    if declaration.use_errno {
        errno::swap(o, known.errno, places.errno);
    }
    match (&declaration.result, result) {
        (_, None) => Some(()),
        (ResultRule::Simple(kind), Some(Item::Word)) => keep(o, *kind, value, places.result),
        (ResultRule::Simple(kind), Some(Item::Number(number))) => {
            put(o, *kind, value, *number, places.result)
        }
        _ => None,
    }
}

/// The canonical word that an item becomes.
fn argument<O: Ops>(o: &mut O, rule: ArgRule, item: Item, place: O::Word) -> Option<O::Word> {
    let (number, kind) = match (item, rule) {
        (Item::Word, rule) => return Some(o.load(place, word(rule.ctype()))),
        (Item::Number(number), ArgRule::Simple(kind)) => (number, kind),
        _ => return None,
    };
    let is_whole = matches!(number, Number::Int(..) | Number::Truth);
    match kind {
        Kind::Int(_) if is_whole => {
            let word = integer(o, number, place);
            Some(o.extend(kind.field().mem, word))
        }
        Kind::VoidP if is_whole => Some(integer(o, number, place)),
        Kind::Bool if is_whole => {
            let (word, zero) = (integer(o, number, place), o.constant(0));
            Some(o.ne(word, zero))
        }
        Kind::Bool => {
            let double = double(o, number, place);
            let (bits, one, zero) = (o.bits(double), o.constant(1), o.constant(0));
            // Shifting out the sign leaves 0 of both zeros, and of nothing else.
            let rest = o.shl(bits, one);
            Some(o.ne(rest, zero))
        }
        Kind::F64 => Some(double(o, number, place)),
        Kind::F32 => {
            let double = double(o, number, place);
            Some(o.demote(double))
        }
        _ => None,
    }
}

/// An integer or a truth.
fn integer<O: Ops>(o: &mut O, number: Number, place: O::Word) -> O::Word {
    let word = o.load(place, number.field());
    match number {
        Number::Truth => {
            let zero = o.constant(0);
            o.ne(word, zero)
        }
        _ => word,
    }
}

/// A number as a double. Integers have at most 53 bits, signed or not.
fn double<O: Ops>(o: &mut O, number: Number, place: O::Word) -> O::Word {
    match number {
        Number::Double => o.load(place, number.field()),
        Number::Single => {
            let single = o.load(place, number.field());
            o.promote(single)
        }
        _ => {
            let word = integer(o, number, place);
            o.to_f64(word)
        }
    }
}

/// How a canonical word lies in a column.
fn word(ctype: CType) -> Field {
    Field::new(
        "word",
        0,
        match ctype {
            CType::F64 => Mem::F64,
            CType::F32 => Mem::F32,
            _ => Mem::I64,
        },
    )
}

/// Keeps a result as a word, to be made an object later; none if it says where
/// something is that may have changed by then.
fn keep<O: Ops>(o: &mut O, kind: Kind, value: O::Word, place: O::Word) -> Option<()> {
    let value = match kind {
        Kind::Int(_) => o.extend(kind.field().mem, value),
        Kind::Bool => o.extend(Mem::U8, value),
        Kind::F64 | Kind::F32 | Kind::VoidP => value,
        _ => return None,
    };
    o.store(place, word(kind.ctype()), value);
    Some(())
}

/// Writes a result as a number that holds it whatever it is.
fn put<O: Ops>(
    o: &mut O,
    kind: Kind,
    value: O::Word,
    number: Number,
    place: O::Word,
) -> Option<()> {
    let value = match (kind, number) {
        (Kind::Int(ctype), _) if number.holds(ctype) => o.extend(kind.field().mem, value),
        (Kind::Bool, Number::Int(..) | Number::Truth) => {
            let (byte, zero) = (o.extend(Mem::U8, value), o.constant(0));
            o.ne(byte, zero)
        }
        (Kind::F64, Number::Double) => value,
        (Kind::F32, Number::Double) => o.promote(value),
        // By way of the double that Python would see.
        (Kind::F32, Number::Single) => {
            let double = o.promote(value);
            o.demote(double)
        }
        _ => return None,
    };
    o.store(place, number.field(), value);
    Some(())
}

/// The word for an object that is passed in place of an item; none if it is not one
/// word for good, or if Python code had to run for it.
pub(crate) fn unbox<O: Ops<Word = u64>>(
    o: &mut O,
    known: &Known,
    arg: &Arg,
    object: u64,
) -> Option<u64> {
    if let ArgRule::Simple(kind) = arg.rule
        && let Some(word) = unbox_plain(o, known, kind, object)
    {
        return Some(word);
    }
    let is_lasting = with_class(o, known, object, |_, given| Ok(given.is_lasting()));
    let takes_any = matches!(arg.rule, ArgRule::Simple(Kind::Object) | ArgRule::Convert(_));
    if takes_any || !is_lasting.unwrap_or(false) {
        return None;
    }
    match args::take(o, known, &mut None, Some(arg), object) {
        Ok(Argument::Passed(passed)) => {
            let is_as_declared = passed.ctype == arg.rule.ctype() && passed.copy.is_none();
            (is_as_declared && passed.words.len() == 1).then(|| passed.words[0])
        }
        _ => None,
    }
}

/// The word of a float for a double, or of an int for an integer: nearly all items
/// are, and the rules of these need no more than the class.
fn unbox_plain<O: Ops<Word = u64>>(
    o: &mut O,
    known: &Known,
    kind: Kind,
    object: u64,
) -> Option<u64> {
    let class = o.load(object, layout::OB_TYPE);
    match kind {
        Kind::F64 if class == known.classes.float().address => {
            numbers::double(o, known, object, Family::Float).ok()
        }
        Kind::Int(_) if class == known.classes.int().address => {
            let word = numbers::integer(o, known, object);
            Some(o.extend(kind.field().mem, word))
        }
        _ => None,
    }
}

/// The object for a result that was kept as a word; 0 with an exception set if there
/// is no memory.
pub(crate) fn wrap<H: hotcall_tracer::Host>(
    live: &mut Live<'_, H>,
    known: &Known,
    result: &ResultRule,
    word: u64,
) -> u64 {
    results::wrap(live, known, result, word)
}
