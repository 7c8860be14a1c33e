//! What a callback's class says of it: how each argument is boxed, and how the
//! result is unboxed. Callbacks of one shape share all code.

use hotcall_core::{CType, Signature};
use hotcall_tracer::Refusal;
use smallvec::SmallVec;

use crate::classes::Family;
use crate::declare::{Kind, Reader};
use crate::layout;
use crate::levels;
use crate::raw::Object;
use crate::refusals;

/// How an argument becomes an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Boxing {
    /// The Python value of a simple type.
    Value(Kind),
    /// An instance of its class, which is called for one, with these bytes.
    Instance(CType),
}

impl Boxing {
    /// The C type that carries it.
    fn ctype(self) -> CType {
        match self {
            Boxing::Value(kind) => kind.ctype(),
            Boxing::Instance(ctype) => ctype,
        }
    }
}

/// The versions of classes, in an order.
pub(crate) type Versions = SmallVec<[u32; 4]>;

/// What a native entry depends on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Shape {
    pub(crate) args: SmallVec<[Boxing; 4]>,
    /// The kind of the result; none for a function that returns nothing.
    pub(crate) result: Option<Kind>,
    /// Whether calls of the callable count themselves as levels of recursion.
    pub(crate) counts_itself: bool,
}

impl Shape {
    /// The shape of a thunk of ctypes.
    ///
    /// # Errors
    /// The refusal under which ctypes makes its calls.
    pub(crate) fn of(reader: &Reader<'_>, thunk: Object) -> Result<Shape, Refusal> {
        let converters = thunk.object(layout::THUNK_CONVERTERS).map(Object::items);
        let args = converters.unwrap_or_default().into_iter().map(|class| boxing(reader, class));
        let restype = thunk.object(layout::THUNK_RESTYPE).ok_or(refusals::RESTYPE)?;
        let result = match restype.address() == reader.kinds.none {
            true => None,
            false => match reader.kinds.of_class(restype) {
                Some(Kind::LongDouble) => return Err(refusals::LONG_DOUBLE),
                Some(kind) => Some(kind),
                None => return Err(refusals::CALLBACK_RESULT),
            },
        };
        let counts_itself = counts_itself(thunk);
        Ok(Shape { args: args.collect::<Result<_, _>>()?, result, counts_itself })
    }

    /// Whether a thunk of a class that has this shape's classes has this shape, if
    /// its structures have the `versions` of one that has.
    pub(crate) fn is_of(&self, thunk: Object, versions: &Versions) -> bool {
        self.counts_itself == counts_itself(thunk)
            && self.versions(thunk).as_ref() == Some(versions)
    }

    /// The versions that a thunk's structures have, which are all that its shape
    /// depends on but the classes themselves and the callable; none if one has no
    /// version.
    pub(crate) fn versions(&self, thunk: Object) -> Option<Versions> {
        let converters = thunk.object(layout::THUNK_CONVERTERS).map(Object::items);
        let is_struct = |boxing| matches!(boxing, Boxing::Instance(CType::Struct(_)));
        let structs = converters.unwrap_or_default().into_iter().zip(&self.args);
        let structs = structs.filter(|&(_, &boxing)| is_struct(boxing)).map(|(class, _)| class);
        let versions = structs.map(|class| class.word(layout::TYPE_VERSION) as u32);
        versions.map(|version| (version != 0).then_some(version)).collect()
    }

    /// The C function that it is.
    ///
    /// # Errors
    /// The refusal of a type that fits in no word.
    pub(crate) fn signature(&self) -> Result<Signature, Refusal> {
        let args: Vec<CType> = self.args.iter().map(|boxing| boxing.ctype()).collect();
        let result = self.result.map_or(CType::Void, Kind::ctype);
        Signature::new(args, result).map_err(|_| refusals::LONG_DOUBLE)
    }
}

/// Whether calls of a thunk's callable count themselves. One that the garbage
/// collector has taken from it is not called.
fn counts_itself(thunk: Object) -> bool {
    thunk.object(layout::THUNK_CALLABLE).is_none_or(levels::counts_itself)
}

/// How ctypes makes an object of an argument of this class.
fn boxing(reader: &Reader<'_>, class: Object) -> Result<Boxing, Refusal> {
    match reader.classes.family(reader.kinds, reader.layout, class) {
        Family::Simple(Kind::LongDouble) => Err(refusals::LONG_DOUBLE),
        Family::Simple(kind) if reader.kinds.is_direct(class) => Ok(Boxing::Value(kind)),
        Family::Simple(kind) => Ok(Boxing::Instance(kind.ctype())),
        Family::Pointer(_) | Family::Function => Ok(Boxing::Instance(CType::Pointer)),
        Family::Record => {
            let passing = reader.classes.passing(reader.layout, class);
            Ok(Boxing::Instance(CType::Struct(passing.ok_or(refusals::BY_VALUE)?)))
        }
        _ => Err(refusals::CALLBACK_ARGUMENT),
    }
}
