//! An object file that says what is at the address of a stub: its name, and
//! how to unwind it. Source: System V ABI, chapters 4 and 5.

use crate::stub::Stub;
use crate::unwind::table;

const FILE_HEADER: usize = 64;
const SECTION_HEADER: usize = 64;

/// Kinds of sections.
const NULL: u32 = 0;
const PROGBITS: u32 = 1;
const SYMTAB: u32 = 2;
const STRTAB: u32 = 3;
const NOBITS: u32 = 8;
/// Flags of sections.
const ALLOC: u64 = 2;
const EXECUTE: u64 = 4;
/// A symbol that is a function that other files may see.
const GLOBAL_FUNCTION: u8 = 1 << 4 | 2;

/// One section, with its content.
struct Section {
    name: &'static str,
    kind: u32,
    flags: u64,
    address: u64,
    /// The size, of a section without content in the file.
    size: usize,
    link: u32,
    info: u32,
    entry: u64,
    content: Vec<u8>,
}

impl Section {
    fn new(name: &'static str, kind: u32, content: Vec<u8>) -> Section {
        let size = content.len();
        Section { name, kind, flags: 0, address: 0, size, link: 0, info: 0, entry: 0, content }
    }
}

/// The object file of a stub that is called `name`.
pub(super) fn object(name: &str, stub: &Stub) -> Vec<u8> {
    let code = Section {
        flags: ALLOC | EXECUTE,
        address: stub.entry(),
        size: stub.len(),
        ..Section::new(".text", NOBITS, Vec::new())
    };
    let unwinding = table(stub.entry(), stub.len(), &stub.rows);
    let unwinding = Section { flags: ALLOC, ..Section::new(".eh_frame", PROGBITS, unwinding) };
    // The name is the second text, and the code the second section.
    let texts = [b"\0", name.as_bytes(), b"\0"].concat();
    let symbols = Section {
        link: 4,
        info: 1,
        entry: 24,
        ..Section::new(
            ".symtab",
            SYMTAB,
            [symbol(0, 0, 0, 0), symbol(1, GLOBAL_FUNCTION, 1, stub.len())].concat(),
        )
    };
    file(vec![
        Section::new("", NULL, Vec::new()),
        code,
        unwinding,
        symbols,
        Section::new(".strtab", STRTAB, texts),
    ])
}

/// A symbol at the beginning of a section.
fn symbol(name: u32, kind: u8, section: u16, size: usize) -> Vec<u8> {
    let mut out = name.to_le_bytes().to_vec();
    out.extend([kind, 0]);
    out.extend(section.to_le_bytes());
    out.extend(0_u64.to_le_bytes());
    out.extend((size as u64).to_le_bytes());
    out
}

/// Puts sections into a file, with one more behind them for their names.
fn file(mut sections: Vec<Section>) -> Vec<u8> {
    sections.push(Section::new(".shstrtab", STRTAB, Vec::new()));
    let mut names = Vec::new();
    let places: Vec<u32> = sections
        .iter()
        .map(|section| {
            let place = names.len() as u32;
            names.extend(section.name.bytes().chain([0]));
            place
        })
        .collect();
    let last = sections.len() - 1;
    sections[last] = Section::new(".shstrtab", STRTAB, names);

    let headers = FILE_HEADER + SECTION_HEADER * sections.len();
    let mut contents = Vec::new();
    let mut out = file_header(sections.len() as u16);
    for (section, name) in sections.iter().zip(places) {
        let offset = (headers + contents.len()) as u64;
        out.extend(name.to_le_bytes());
        out.extend(section.kind.to_le_bytes());
        for word in [section.flags, section.address, offset, section.size as u64] {
            out.extend(word.to_le_bytes());
        }
        out.extend(section.link.to_le_bytes());
        out.extend(section.info.to_le_bytes());
        // Everything is aligned to words.
        out.extend(8_u64.to_le_bytes());
        out.extend(section.entry.to_le_bytes());
        contents.extend(&section.content);
        contents.resize(contents.len().next_multiple_of(8), 0);
    }
    out.extend(contents);
    out
}

/// The header of a relocatable file for x86-64 with so many sections, the last
/// of which has the names.
fn file_header(sections: u16) -> Vec<u8> {
    let mut out = b"\x7fELF".to_vec();
    // 64 bits, little-endian, version 1, System V.
    out.extend([2, 1, 1, 0]);
    out.extend([0; 8]);
    out.extend([1_u16, 62].map(u16::to_le_bytes).concat());
    out.extend(1_u32.to_le_bytes());
    out.extend([0, 0, FILE_HEADER as u64].map(u64::to_le_bytes).concat());
    out.extend(0_u32.to_le_bytes());
    let sizes = [FILE_HEADER as u16, 0, 0, SECTION_HEADER as u16, sections, sections - 1];
    out.extend(sizes.map(u16::to_le_bytes).concat());
    out
}
