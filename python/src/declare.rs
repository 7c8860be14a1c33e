//! Reads the declaration of a ctypes function object: what `argtypes`,
//! `restype`, `errcheck` and the function's class say, as C types and rules.
//!
//! **Invariant.** A declaration holds addresses, not references: the function
//! object owns what they name for as long as the declaration is in force.

use std::sync::Arc;

use hotcall_core::{CType, PreparedCall, Signature, StructType};
use hotcall_tracer::{Field, Mem, Refusal, Symbol};

use crate::audit;
use crate::checker;
use crate::classes::{Classes, Family};
use crate::detour::Detours;
use crate::kinds::{Converter, Kinds};
use crate::layout::{self, InfoHome, Layout};
use crate::observers::{self, Identity};
use crate::parameters::Parameters;
use crate::raw::{Object, Objects};
use crate::refusals;

pub(crate) const CDECL: u64 = 0x1;
const PYTHON_API: u64 = 0x4;
pub(crate) const USE_ERRNO: u64 = 0x8;
/// It means something on Windows alone.
const USE_LAST_ERROR: u64 = 0x10;
/// The bits of `_flags_`; ctypes keeps bits of its own above them.
pub(crate) const FUNCTION_FLAGS: u64 = 0xff;

/// As many arguments as ctypes passes.
const MOST_ARGUMENTS: usize = 1024;

/// A simple C type as ctypes knows them, by what `from_param` and the getter do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// Any of C's integers.
    Int(CType),
    Bool,
    Char,
    WChar,
    F32,
    F64,
    LongDouble,
    CharP,
    WCharP,
    VoidP,
    Object,
}

impl Kind {
    /// The C type that carries it.
    pub(crate) fn ctype(self) -> CType {
        match self {
            Kind::Int(ty) => ty,
            Kind::Bool => CType::Bool,
            Kind::Char => CType::I8,
            Kind::WChar => CType::I32,
            Kind::F32 => CType::F32,
            Kind::F64 => CType::F64,
            Kind::LongDouble => CType::LongDouble,
            Kind::CharP | Kind::WCharP | Kind::VoidP | Kind::Object => CType::Pointer,
        }
    }

    /// A value of this kind in the memory of a ctypes object.
    pub(crate) fn field(self) -> Field {
        let mem = match self.ctype() {
            CType::I8 => Mem::I8,
            CType::U8 | CType::Bool => Mem::U8,
            CType::I16 => Mem::I16,
            CType::U16 => Mem::U16,
            CType::I32 => Mem::I32,
            CType::U32 => Mem::U32,
            CType::F32 => Mem::F32,
            CType::F64 => Mem::F64,
            _ => Mem::I64,
        };
        Field { mem, ..layout::MEMORY_WORD }
    }
}

/// An argument: the class that `argtypes` names, and what it asks for.
#[derive(Clone, Debug)]
pub(crate) struct Arg {
    pub(crate) class: Symbol,
    pub(crate) rule: ArgRule,
}

/// What an argument type asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ArgRule {
    /// A value of a simple type.
    Simple(Kind),
    /// The address of an instance of the class at this address.
    Pointer(u64),
    /// An instance of this array type, or a reference to an item.
    Array(u64),
    /// An instance of this function type.
    Function,
    /// A structure, which is passed by value: of this class it would be passed so.
    Record(&'static StructType),
    /// What a callable, the `class` of the argument, makes of it. If that is the
    /// argument itself, the call can be left out.
    Convert(Option<Identity>),
    /// Anything, as if nothing were declared.
    Passed,
}

impl ArgRule {
    /// The C type that carries it.
    pub(crate) fn ctype(self) -> CType {
        match self {
            ArgRule::Simple(kind) => kind.ctype(),
            ArgRule::Record(of) => CType::Struct(of),
            _ => CType::Pointer,
        }
    }

    /// Whether a str is passed as a copy in wide characters.
    pub(crate) fn takes_text(self) -> bool {
        self.is_open() || matches!(self, ArgRule::Simple(Kind::WCharP | Kind::VoidP))
    }

    /// Whether a structure is passed by value.
    pub(crate) fn is_record(self) -> bool {
        matches!(self, ArgRule::Record(_))
    }

    /// Whether the C type depends on what is given.
    pub(crate) fn is_open(self) -> bool {
        matches!(self, ArgRule::Convert(_) | ArgRule::Passed)
    }
}

/// How the result is wrapped.
#[derive(Clone, Debug)]
pub(crate) enum ResultRule {
    /// None.
    Void,
    /// The Python value of a simple type.
    Simple(Kind),
    /// An instance of a class that is no simple type itself: of a subclass of
    /// one, a pointer or a function.
    Instance { kind: Kind, class: Symbol },
    /// An instance of a structure class.
    Record { class: Symbol, of: &'static StructType },
    /// What a callable makes of the C int.
    Callable(Symbol),
}

impl ResultRule {
    /// The object to keep alive until the result is wrapped.
    fn kept(&self) -> Option<&Symbol> {
        match self {
            ResultRule::Instance { class, .. } | ResultRule::Record { class, .. } => Some(class),
            ResultRule::Callable(callable) => Some(callable),
            _ => None,
        }
    }

    /// The C type of the function's result.
    fn ctype(&self) -> CType {
        match self {
            ResultRule::Void => CType::Void,
            ResultRule::Simple(kind) | ResultRule::Instance { kind, .. } => kind.ctype(),
            ResultRule::Record { of, .. } => CType::Struct(of),
            ResultRule::Callable(_) => CType::I32,
        }
    }
}

/// A foreign function as the program declared it.
#[derive(Clone, Debug)]
pub(crate) struct Declaration {
    /// The function's class.
    pub(crate) class: Symbol,
    /// The class's version: it ends when the class changes, or dies.
    pub(crate) version: u32,
    pub(crate) args: Vec<Arg>,
    pub(crate) result: ResultRule,
    pub(crate) call: Arc<PreparedCall>,
    pub(crate) use_errno: bool,
    /// The `_check_retval_` of the result type.
    pub(crate) checker: Option<Symbol>,
    /// What is called with the result, the function and its arguments. Such a
    /// function is entered through the call slot, which has the very tuple of
    /// arguments that the callable must get.
    pub(crate) errcheck: Option<Symbol>,
    /// The parameters of a function made by a prototype that says them.
    pub(crate) parameters: Option<Parameters>,
    /// The call keeps the GIL and reports the exception that it leaves.
    pub(crate) python_api: bool,
    /// The ways round for arguments that Python code has to run for; none if
    /// other functions share the declaration, since nobody would own the relays.
    pub(crate) detours: Option<Detours>,
}

impl Declaration {
    /// Whether a call may have `count` arguments.
    pub(crate) fn accepts(&self, count: usize) -> bool {
        match &self.parameters {
            Some(parameters) => parameters.accept(count),
            None => (self.args.len()..=MOST_ARGUMENTS).contains(&count),
        }
    }

    /// The objects that are needed after the foreign call.
    pub(crate) fn kept(&self) -> impl Iterator<Item = &Symbol> {
        self.result.kept().into_iter().chain(&self.checker).chain(&self.errcheck)
    }
}

/// Reads declarations by the layout rows, checked at import.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    pub(crate) layout: &'a Layout,
    pub(crate) kinds: &'a Kinds,
    pub(crate) classes: &'a Classes,
}

impl Reader<'_> {
    /// The declaration of a function object, whose class has this version.
    ///
    /// # Errors
    /// The refusal under which ctypes makes all its calls.
    pub(crate) fn read(&self, function: Object, version: u32) -> Result<Declaration, Refusal> {
        if version == 0 {
            return Err(refusals::NEW_CLASS);
        }
        audit::is_silent()?;
        let class = function.class();
        let info = info(self.layout, class);
        let rows = self.layout;
        let own_or = |own, of_class| self.own_or(function, own, of_class);
        let flags = info.word(rows.info_flags) & FUNCTION_FLAGS;
        if flags & !(PYTHON_API | USE_ERRNO | USE_LAST_ERROR) != CDECL {
            return Err(refusals::FLAGS);
        }
        let args = self.args(self.converters(function))?;
        let result = self.result(own_or(layout::FUNC_RESTYPE, rows.info_restype))?;
        let checker = match &result {
            ResultRule::Void | ResultRule::Callable(_) => None,
            _ => own_or(layout::FUNC_CHECKER, rows.info_checker),
        };
        if checker.is_some() && !checker::is_known() {
            return Err(refusals::CHECK_RETVAL);
        }
        let callable = |name: &'static str| {
            move |object: Object| Symbol { name: name.into(), address: object.address() }
        };
        Ok(Declaration {
            class: named(class),
            version,
            call: prepare(args.iter().map(|arg| arg.rule.ctype()).collect(), result.ctype())?,
            args,
            result,
            checker: checker.map(callable("_check_retval_")),
            errcheck: function.object(layout::FUNC_ERRCHECK).map(callable("errcheck")),
            use_errno: flags & USE_ERRNO != 0,
            python_api: flags & PYTHON_API != 0,
            parameters: self.parameters(function)?,
            detours: (!self.is_of_class(function)).then(Detours::default),
        })
    }

    /// A part of a function's declaration, which overrides its class's.
    pub(crate) fn own_or(&self, function: Object, own: Field, of_class: Field) -> Option<Object> {
        let of_class = || info(self.layout, function.class()).object(of_class);
        function.object(own).or_else(of_class)
    }

    /// The converters of a function.
    pub(crate) fn converters(&self, function: Object) -> Objects {
        let all = self.own_or(function, layout::FUNC_CONVERTERS, self.layout.info_converters);
        all.map(Object::items).unwrap_or_default()
    }

    /// The parameter flags of a function, where ctypes looks at them. What was
    /// assigned to `argtypes` may be any sequence, which ctypes takes for a tuple here.
    fn parameters(&self, function: Object) -> Result<Option<Parameters>, Refusal> {
        let argtypes = self.own_or(function, layout::FUNC_ARGTYPES, self.layout.info_argtypes);
        match (function.object(layout::FUNC_PARAMFLAGS), argtypes) {
            (Some(_), Some(argtypes)) if !argtypes.is_tuple() => Err(refusals::PARAMFLAGS),
            (Some(flags), Some(argtypes)) if !argtypes.items().is_empty() => {
                let reader = (self.classes, self.kinds, self.layout);
                Parameters::read(reader, flags, argtypes).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// Whether the function declares nothing itself and its class has
    /// `argtypes`: then the class's declaration is the function's.
    pub(crate) fn is_of_class(&self, function: Object) -> bool {
        let own = [
            layout::FUNC_CONVERTERS,
            layout::FUNC_RESTYPE,
            layout::FUNC_ERRCHECK,
            layout::FUNC_PARAMFLAGS,
        ];
        own.iter().all(|&field| function.word(field) == 0)
            && info(self.layout, function.class()).word(self.layout.info_converters) != 0
    }

    fn args(&self, converters: Objects) -> Result<Vec<Arg>, Refusal> {
        if converters.len() > MOST_ARGUMENTS {
            return Err(refusals::TOO_MANY);
        }
        converters.into_iter().map(|converter| self.arg(converter)).collect()
    }

    fn arg(&self, converter: Object) -> Result<Arg, Refusal> {
        if self.kinds.passes(converter) {
            let class = Symbol { name: "converted".into(), address: converter.address() };
            return Ok(Arg { class, rule: ArgRule::Passed });
        }
        let Some((converter, class)) = self.kinds.of_converter(converter) else {
            let class = Symbol { name: "from_param".into(), address: converter.address() };
            return Ok(Arg { class, rule: ArgRule::Convert(observers::identity(converter)) });
        };
        let family = self.classes.family(self.kinds, self.layout, class);
        let rule = match (converter, family) {
            (Converter::Simple(Kind::LongDouble), _) => return Err(refusals::LONG_DOUBLE),
            (Converter::Simple(kind), _) => ArgRule::Simple(kind),
            (Converter::Pointer, Family::Pointer(target)) if self.is_stock(target) => {
                ArgRule::Pointer(target)
            }
            (Converter::Data, Family::Array(item)) if self.is_stock(item) => ArgRule::Array(item),
            (Converter::Data, Family::Function) => ArgRule::Function,
            (Converter::Data, Family::Record) => {
                let passing = self.classes.passing(self.layout, class);
                ArgRule::Record(passing.ok_or(refusals::BY_VALUE)?)
            }
            _ => return Err(refusals::FROM_PARAM),
        };
        Ok(Arg { class: named(class), rule })
    }

    /// Whether the metaclass of the class at `address`, of which a living class
    /// is made, is one of ctypes' own: it has no `__instancecheck__`.
    #[allow(unsafe_code, reason = "see SAFETY")]
    fn is_stock(&self, address: u64) -> bool {
        // SAFETY: pointer and array classes own the class of their items.
        let class = unsafe { Object::at(address) };
        self.classes.family(self.kinds, self.layout, class) != Family::Other
    }

    fn result(&self, restype: Option<Object>) -> Result<ResultRule, Refusal> {
        let Some(restype) = restype else {
            return Ok(ResultRule::Simple(Kind::Int(CType::I32)));
        };
        if restype.address() == self.kinds.none {
            return Ok(ResultRule::Void);
        }
        let class = || named(restype);
        match self.classes.family(self.kinds, self.layout, restype) {
            Family::Simple(Kind::LongDouble) => Err(refusals::LONG_DOUBLE),
            Family::Simple(kind) if self.kinds.is_direct(restype) => Ok(ResultRule::Simple(kind)),
            Family::Simple(kind) => Ok(ResultRule::Instance { kind, class: class() }),
            Family::Pointer(_) | Family::Function => {
                Ok(ResultRule::Instance { kind: Kind::VoidP, class: class() })
            }
            Family::Record => match self.classes.passing(self.layout, restype) {
                Some(of) => Ok(ResultRule::Record { class: class(), of }),
                None => Err(refusals::BY_VALUE),
            },
            Family::Other if self.classes.is_callable_alone(restype) => {
                let address = restype.address();
                Ok(ResultRule::Callable(Symbol { name: "restype".into(), address }))
            }
            _ => Err(refusals::RESTYPE),
        }
    }
}

/// The prepared libffi call of a function with these arguments.
pub(crate) fn prepare(args: Vec<CType>, result: CType) -> Result<Arc<PreparedCall>, Refusal> {
    // No argument is void, and long double has been refused: neither step fails.
    let signature = Signature::new(args, result).map_err(|_| refusals::LONG_DOUBLE)?;
    PreparedCall::new(&signature).map(Arc::new).map_err(|_| refusals::LONG_DOUBLE)
}

/// Where ctypes keeps what it knows of `class`, a concrete ctypes class.
#[allow(unsafe_code, reason = "see SAFETY")]
pub(crate) fn info(layout: &Layout, class: Object) -> Object {
    let address = match layout.info_home {
        InfoHome::Dict => class.word(layout::TYPE_DICT),
        InfoHome::Type(offset) => class.address().wrapping_add_signed(offset.into()),
    };
    // SAFETY: every concrete ctypes class has it there, and owns it.
    unsafe { Object::at(address) }
}

/// The class under its own name, without its module.
pub(crate) fn named(class: Object) -> Symbol {
    let name = class.text(layout::TYPE_NAME);
    let short = name.rsplit('.').next().unwrap_or_default().to_owned();
    Symbol { name: short.into(), address: class.address() }
}
