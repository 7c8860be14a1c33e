//! Layouts and classes, compared with what the compiler and the documents say.

use super::*;
use CType::{F32, F64, I8, I16, I32, I64, LongDouble, U8, Void};
use Class::{Float64, Int};

fn of(fields: &[CType]) -> CType {
    CType::struct_of(fields).unwrap()
}

#[test]
fn layouts_are_those_of_c() {
    #[repr(C)]
    struct Mixed(u8, i32, i16, f64, u8);
    let mixed = of(&[U8, I32, I16, F64, U8]);
    assert_eq!((mixed.size(), mixed.align()), (size_of::<Mixed>(), align_of::<Mixed>()));
    let offsets: Vec<usize> =
        mixed.as_struct().unwrap().fields().iter().map(|(offset, _)| *offset).collect();
    assert_eq!(offsets, [0, 4, 8, 16, 24]);
}

#[test]
fn classes_of_the_supplement() {
    let check = |fields: &[CType], want: &[Class]| {
        let CType::Struct(made) = of(fields) else { panic!("a struct") };
        assert_eq!(made.words(Abi::SystemV), want, "{made}");
    };
    check(&[I32], &[Int]);
    check(&[F32, F32], &[Float64]);
    check(&[F32, I32], &[Int]);
    check(&[F32, F32, F32], &[Float64, Float64]);
    check(&[F64, I8], &[Float64, Int]);
    check(&[I64, F64], &[Int, Float64]);
    check(&[of(&[F32, F32]), of(&[F32, I16])], &[Float64, Int]);
    check(&[I64, I64, I8], &[]);
    check(&[F64, F64, F64], &[]);
}

#[test]
fn win64_takes_words_alone() {
    let words = |fields: &[CType]| of(fields).as_struct().unwrap().words(Abi::Win64).len();
    assert_eq!([words(&[I8]), words(&[I16]), words(&[F32]), words(&[F32, I32])], [1; 4]);
    assert_eq!([words(&[I8; 3]), words(&[I32; 3]), words(&[F64; 2])], [0; 3]);
}

#[test]
fn equal_layouts_are_one_type() {
    assert!(std::ptr::eq(StructType::of(&[I8, I32]).unwrap(), StructType::of(&[I8, I32]).unwrap()));
    assert_ne!(of(&[I8, I32]), of(&[I32, I8]));
}

#[test]
fn what_cannot_be_passed_says_why() {
    let check = |result: Result<&StructType, Error>, want: StructError| {
        assert!(matches!(result, Err(Error::Struct(error)) if error == want), "{want}");
    };
    check(StructType::of(&[]), StructError::Empty);
    check(StructType::of(&[I8, Void]), StructError::Void);
    check(StructType::of(&[LongDouble]), StructError::LongDouble);
    check(StructType::with_layout(vec![(1, I32)], 5, 1), StructError::Odd { offset: 1 });
    check(StructType::with_layout(vec![(0, I32)], 16, 16), StructError::Odd { offset: 8 });
    check(StructType::with_layout(vec![(4, I64)], 8, 8), StructError::Layout);
    check(StructType::with_layout(vec![(0, I8)], 3, 2), StructError::Layout);
    check(StructType::with_layout(vec![(usize::MAX, I64)], 8, 8), StructError::Layout);
    let large = StructType::with_layout(vec![(0, I64)], usize::MAX & !7, 8).unwrap();
    check(StructType::of(&[CType::Struct(large), I64]), StructError::Layout);
    check(StructType::with_layout(vec![(0, I64)], 32, 32), StructError::Aligned);
    assert!(StructType::with_layout(vec![(1, I64), (9, I64)], 17, 1).is_ok());
}

#[test]
fn prints_fields_and_odd_layouts() {
    assert_eq!(of(&[I32, of(&[F64])]).to_string(), "{i32, {f64}}");
    let packed = StructType::with_layout(vec![(0, I8), (1, I64), (9, I64)], 17, 1).unwrap();
    assert_eq!(packed.to_string(), "{i8 @0, i64 @1, i64 @9; size 17, align 1}");
}

#[test]
fn structs_in_structs_take_no_longer_than_they_are_deep() {
    let mut twice = of(&[I8]);
    let mut overlaid = StructType::of(&[I64]).unwrap();
    for _ in 1..60 {
        twice = of(&[twice, twice]);
        let fields = vec![(0, CType::Struct(overlaid)), (0, CType::Struct(overlaid))];
        overlaid = StructType::with_layout(fields, 8, 8).unwrap();
    }
    assert_eq!((twice.size(), overlaid.words(Abi::SystemV)), (1 << 59, &[Int][..]));
}
