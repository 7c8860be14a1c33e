//! The classes of values that calls have seen: what ctypes does with their
//! instances, and whether asking `isinstance` of them is free of surprises.
//!
//! **Invariant.** Rules only look classes up. A class that is new to them is
//! learned outside, since that may run Python code, and the call begins anew.
//! What was learned holds for a version of the class, which rules and stubs
//! compare: no two classes ever have the same one, so a class that got the
//! address of a dead one is not taken for it, and none is kept alive.

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};

use hotcall_core::StructType;
use hotcall_tracer::{BuildWordHasher, Symbol};
use pyo3::exceptions::PyMemoryError;
use pyo3::prelude::*;
use pyo3::types::PyType;

use crate::declare::{Kind, info, named};
use crate::instance;
use crate::kinds::{Kinds, handle};
use crate::layout::{self, Layout};
use crate::make::{self, Make, Name, Named};
use crate::raw::{INT_SUBCLASS, Object, Objects, Owned};
use crate::records;

/// The flag of types that cannot be modified.
const IMMUTABLE: u64 = 1 << 8;
/// The flag of types that were made at run time.
const HEAP_TYPE: u64 = 1 << 9;
/// The flags of classes that derive from one of eight built-in ones.
const BUILTIN_SUBCLASS: u64 = 0xff << 24;
/// Classes that are remembered at most.
const MOST_CLASSES: usize = 10_000;

/// What ctypes does with an instance of a class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    None,
    /// int or bool, whose objects have one layout.
    Int,
    /// A class that derives from int, and has ints' layout: ctypes reads the
    /// value without asking it, but where it wants a truth or a float.
    IntSubclass,
    Float,
    Bytes,
    Str,
    /// A simple type of ctypes.
    Simple(Kind),
    /// A pointer of ctypes to instances of the class at this address.
    Pointer(u64),
    /// An array of ctypes of items of the class at this address.
    Array(u64),
    /// A structure or union of ctypes.
    Record,
    /// A foreign function.
    Function,
    /// What `byref` gives.
    Reference,
    /// None of these: ctypes knows it as an object alone.
    Other,
}

/// What is known of a class.
#[derive(Debug)]
pub(crate) struct Class {
    pub(crate) symbol: Symbol,
    pub(crate) family: Family,
    /// The classes that it derives from, itself first.
    ancestors: Vec<u64>,
    /// Whether `isinstance` of an instance, and another class, runs no Python
    /// code as long as the class keeps its version.
    pub(crate) is_plain: bool,
    /// Whether all that ctypes does with an instance, where it expects none of
    /// the kind, is to look up `_as_parameter_`, without Python code in between.
    pub(crate) is_ordinary: bool,
    /// Whether the end of an instance may run code of the program's.
    pub(crate) has_finaliser: bool,
    /// How a structure or union is passed by value, if that is known.
    pub(crate) passing: Option<&'static StructType>,
    /// The version to guard, for a class that can be modified.
    pub(crate) version: Option<u32>,
}

impl Class {
    /// Whether it is, or derives from, the class at `address`.
    pub(crate) fn derives_from(&self, address: u64) -> bool {
        self.ancestors.contains(&address)
    }
}

/// A class that was found: it may be forgotten while it is looked at.
pub(crate) enum Found<'a> {
    Builtin(&'a Class),
    Learned(Arc<Class>),
}

impl Deref for Found<'_> {
    type Target = Class;

    #[inline]
    fn deref(&self) -> &Class {
        match self {
            Found::Builtin(class) => class,
            Found::Learned(class) => class,
        }
    }
}

/// The metaclasses of ctypes, and built-in classes of note.
#[derive(Debug)]
struct Landmarks {
    metaclasses: Vec<(u64, Maker)>,
    /// The classes from which all others of a metaclass derive. They are
    /// abstract: ctypes knows nothing of them.
    bases: Vec<u64>,
    /// The slots that look attributes up without running Python code.
    plain_getattro: [u64; 2],
    /// The metaclass of unions.
    union_class: u64,
    object: u64,
    type_class: u64,
    /// Gives the dictionary of a class, whatever its metaclass says.
    dict_of: Py<PyAny>,
}

/// How the family of a metaclass's classes is found.
type Maker = fn(&Kinds, &Layout, Object) -> Option<Family>;

type Map = HashMap<u64, Arc<Class>, BuildWordHasher>;

/// All classes that were learned.
#[derive(Debug)]
pub(crate) struct Classes {
    landmarks: Landmarks,
    /// The classes that most arguments have, int and float first.
    builtins: [Class; 7],
    known: Mutex<Map>,
}

impl Classes {
    /// Knows the built-in classes that arguments have most.
    ///
    /// # Errors
    /// What a look-up raised.
    pub(crate) fn read(py: Python<'_>) -> PyResult<Classes> {
        let ctypes = make::import(py, "ctypes")?;
        let c_int = ctypes.attr("c_int")?;
        let metaclass = |class: &Bound<'_, PyAny>| class.get_type_ptr() as u64;
        let of = |name: &str| Ok::<u64, PyErr>(metaclass(&ctypes.attr(name)?));
        let metaclasses: Vec<(u64, Maker)> = vec![
            (metaclass(&c_int), |kinds, _, class| kinds.of_class(class).map(Family::Simple)),
            (of("_Pointer")?, |_, layout, class| target(layout, class).map(Family::Pointer)),
            (of("Array")?, |_, layout, class| target(layout, class).map(Family::Array)),
            (of("Structure")?, |_, _, _| Some(Family::Record)),
            (of("Union")?, |_, _, _| Some(Family::Record)),
            (of("_CFuncPtr")?, |_, _, _| Some(Family::Function)),
        ];
        let names = ["_SimpleCData", "_Pointer", "Array", "Structure", "Union", "_CFuncPtr"];
        let base = |name| Ok(ctypes.attr(name)?.as_ptr() as u64);
        let bases = names.into_iter().map(base).collect::<PyResult<Vec<u64>>>()?;
        let builtins = make::import(py, "builtins")?;
        let object = builtins.attr("object")?;
        let type_class = py.get_type::<PyType>();
        let getattro = |class: &Bound<'_, PyAny>| handle(class).word(layout::TYPE_GETATTRO);
        let landmarks = Landmarks {
            metaclasses,
            bases,
            plain_getattro: [getattro(&object), getattro(type_class.as_any())],
            union_class: of("Union")?,
            object: object.as_ptr() as u64,
            type_class: type_class.as_ptr() as u64,
            dict_of: type_class.attr("__dict__")?.item("__dict__")?.attr("__get__")?.unbind(),
        };
        let reference = ctypes.attr("byref")?.call_with((c_int.call0()?,))?;
        let none = py.None().bind(py).get_type().into_any();
        let families = [
            (builtins.attr("int")?, Family::Int),
            (builtins.attr("float")?, Family::Float),
            (builtins.attr("bytes")?, Family::Bytes),
            (none, Family::None),
            (builtins.attr("bool")?, Family::Int),
            (builtins.attr("str")?, Family::Str),
            (reference.get_type().into_any(), Family::Reference),
        ];
        let builtin = |(class, family): (Bound<'_, PyAny>, Family)| {
            let class = handle(&class);
            let symbol = named(class);
            Class {
                symbol,
                family,
                ancestors: class.order().iter().map(|base| base.address()).collect(),
                is_plain: true,
                is_ordinary: false,
                has_finaliser: false,
                passing: None,
                version: None,
            }
        };
        let builtins = families.map(builtin);
        Ok(Classes { landmarks, builtins, known: Mutex::default() })
    }

    fn insert(&self, address: u64, class: Class) {
        let mut map = self.map();
        if map.len() == MOST_CLASSES {
            // Most of them are dead. The others are learned again.
            map.clear();
        }
        map.insert(address, Arc::new(class));
    }

    fn map(&self) -> std::sync::MutexGuard<'_, Map> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of the class at `address`, if it was learned.
    #[inline]
    pub(crate) fn find(&self, address: u64) -> Option<Found<'_>> {
        match self.builtins.iter().find(|class| class.symbol.address == address) {
            Some(class) => Some(Found::Builtin(class)),
            None => self.map().get(&address).cloned().map(Found::Learned),
        }
    }

    /// Learns a class; true if that says more than was known.
    ///
    /// # Errors
    /// `MemoryError`: nothing has been learned.
    pub(crate) fn learn(
        &self,
        py: Python<'_>,
        kinds: &Kinds,
        layout: &Layout,
        class: Object,
    ) -> PyResult<bool> {
        // Python code may run: it may give the class other bases, and its objects
        // another class.
        let _held = Owned::of(class);
        let version = match class.word(layout::TYPE_FLAGS) & IMMUTABLE {
            0 => Some(self.version(py, class)),
            _ => None,
        };
        // What is read from here on holds for this version.
        let order = class.object(layout::TYPE_MRO).map(Owned::of);
        let order = order.as_ref().map(|order| order.object().items()).unwrap_or_default();
        let flags = class.word(layout::TYPE_FLAGS);
        let known = self.find(class.address());
        if known.is_some_and(|known| known.version == version) {
            return Ok(false);
        }
        let family = match self.family(kinds, layout, class) {
            Family::Other if flags & INT_SUBCLASS != 0 => Family::IntSubclass,
            family => family,
        };
        let own = order.iter().copied().filter(|base| base.address() != self.landmarks.object);
        let own: Objects = own.collect();
        let is_plain = version != Some(0) && self.is_plain(py, class, &own)?;
        let is_ordinary = is_plain && family == Family::Other && flags & BUILTIN_SUBCLASS == 0;
        let learned = Class {
            symbol: named(class),
            family,
            passing: (family == Family::Record).then(|| self.passing(layout, class)).flatten(),
            ancestors: order.iter().map(|base| base.address()).collect(),
            is_plain,
            is_ordinary: is_ordinary && self.is_ordinary(py, &own)?,
            has_finaliser: instance::has_finaliser(class),
            version,
        };
        self.insert(class.address(), learned);
        Ok(true)
    }

    /// How a structure or union is passed by value, if that is known: read from what
    /// ctypes says of it, but for a class that was learned as it is.
    pub(crate) fn passing(&self, layout: &Layout, class: Object) -> Option<&'static StructType> {
        let version = class.word(layout::TYPE_VERSION) as u32;
        let as_it_is = |known: &Found<'_>| version != 0 && known.version == Some(version);
        if let Some(known) = self.find(class.address()).filter(as_it_is) {
            return known.passing;
        }
        let is_union = class.word(layout::OB_TYPE) == self.landmarks.union_class;
        records::passing(layout, class, is_union)
    }

    /// Whether ctypes takes instances of a class without running Python code:
    /// those of its own classes, and of the built-in ones that it knows.
    pub(crate) fn is_familiar(&self, class: Object) -> bool {
        let metaclass = class.word(layout::OB_TYPE);
        self.builtins.iter().any(|builtin| builtin.symbol.address == class.address())
            || self.landmarks.metaclasses.iter().any(|(known, _)| *known == metaclass)
    }

    /// Whether an object is an int, and of no class that derives from it.
    pub(crate) fn is_exact_int(&self, object: Object) -> bool {
        self.int().address == object.word(layout::OB_TYPE)
    }

    pub(crate) fn int(&self) -> &Symbol {
        &self.builtins[0].symbol
    }

    /// The class of floats.
    pub(crate) fn float(&self) -> &Symbol {
        &self.builtins[1].symbol
    }

    /// Whether an object is what `byref` gives.
    pub(crate) fn is_reference(&self, object: Object) -> bool {
        let class = self.find(object.word(layout::OB_TYPE));
        class.is_some_and(|class| class.family == Family::Reference)
    }

    /// What ctypes does with instances of a class.
    pub(crate) fn family(&self, kinds: &Kinds, layout: &Layout, class: Object) -> Family {
        if self.landmarks.bases.contains(&class.address()) {
            return Family::Other;
        }
        let metaclass = class.word(layout::OB_TYPE);
        let row = self.landmarks.metaclasses.iter().find(|(known, _)| *known == metaclass);
        row.and_then(|(_, make)| make(kinds, layout, class)).unwrap_or(Family::Other)
    }

    /// Whether ctypes sees nothing but a callable in an object: neither a class
    /// of its own, nor one whose metaclass is no stock one.
    pub(crate) fn is_callable_alone(&self, object: Object) -> bool {
        !object.is_type() || object.class().address() == self.landmarks.type_class
    }

    /// The class's version, given to it now if it has none; 0 if it gets none.
    pub(crate) fn version(&self, py: Python<'_>, class: Object) -> u32 {
        let version = || class.word(layout::TYPE_VERSION) as u32;
        let metaclass = class.word(layout::OB_TYPE);
        let stock = self.landmarks.metaclasses.iter().any(|(known, _)| *known == metaclass);
        if version() == 0 && (stock || metaclass == self.landmarks.type_class) {
            // The look-up of an attribute in the class itself gives it one.
            let _found = class.bound(py).attr(&make::INIT);
        }
        version()
    }

    /// Whether no class of the method resolution order, which is held without
    /// `object`, has a say in `__class__`.
    fn is_plain(&self, py: Python<'_>, class: Object, order: &[Object]) -> PyResult<bool> {
        let getattro = class.word(layout::TYPE_GETATTRO);
        if !self.landmarks.plain_getattro.contains(&getattro) {
            return Ok(false);
        }
        self.lack(py, order, &[&make::CLASS])
    }

    /// Whether a plain class that ctypes does not know has neither a built-in
    /// class among its bases nor the methods of a number.
    fn is_ordinary(&self, py: Python<'_>, order: &[Object]) -> PyResult<bool> {
        let mut flags = order.iter().map(|base| base.word(layout::TYPE_FLAGS));
        let are_of_program = flags.all(|flags| flags & (HEAP_TYPE | IMMUTABLE) == HEAP_TYPE);
        Ok(are_of_program && self.lack(py, order, &[&make::INDEX, &make::FLOAT, &make::INT])?)
    }

    /// Whether the own dictionaries of these classes have none of these names; not if
    /// a key of the program's raises.
    fn lack(&self, py: Python<'_>, classes: &[Object], names: &[&Name]) -> PyResult<bool> {
        let has = |dict: &Bound<'_, PyAny>, name: Bound<'_, PyAny>| match dict.contains(name) {
            Err(error) if !error.is_instance_of::<PyMemoryError>(py) => Ok(true),
            found => found,
        };
        for class in classes {
            let dict = self.landmarks.dict_of.bind(py).call_with((class.bound(py),))?;
            for name in names {
                if has(&dict, name.make(py)?)? {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }
}

/// What a pointer or array class is made of, if it is concrete.
fn target(layout: &Layout, class: Object) -> Option<u64> {
    let target = info(layout, class).word(layout.info_proto);
    (target != 0).then_some(target)
}
