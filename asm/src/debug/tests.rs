//! What is told of stubs, read back: the map, the dump, and the object file.

use std::fs;
use std::sync::MutexGuard;

use hotcall_tracer::{Backend, Op, Trace};

use super::*;
use crate::Jit;
use crate::tests::Builder;
use crate::tests::memory::forked;

fn returns(word: u64) -> Trace {
    let (mut b, [x]) = Builder::new();
    let word = b.number(word);
    let sum = b.op(Op::Add, &[x, word]);
    b.ret(sum)
}

/// A folder of its own for a test, and that no other test holds the lock of the
/// dumps meanwhile: a child that is forked then could never take it.
fn folder(name: &str) -> (PathBuf, MutexGuard<'static, ()>) {
    static ALONE: Mutex<()> = Mutex::new(());
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = std::env::temp_dir().join(format!("hotcall-{name}-{}", process::id()));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir(&folder).unwrap();
    (folder, alone)
}

/// The numbers and names of the stubs in the dump of this process.
fn dumped(folder: &Path) -> Vec<(u64, String)> {
    let dump = fs::read(folder.join(format!("jit-{}.dump", process::id()))).unwrap();
    let word = |at: usize| u32::from_ne_bytes(dump[at..at + 4].try_into().unwrap());
    let mut stubs = Vec::new();
    let mut at = word(8) as usize;
    while at < dump.len() {
        assert_eq!(word(at), 0, "a stub at byte {at} of {}", dump.len());
        let size = word(at + 4) as usize;
        let record = &dump[at..at + size];
        let name = record[56..].split(|byte| *byte == 0).next().unwrap();
        let index = u64::from_ne_bytes(record[48..56].try_into().unwrap());
        stubs.push((index, String::from_utf8(name.to_vec()).unwrap()));
        at += size;
    }
    stubs
}

#[test]
fn each_stub_is_told_once_and_children_have_files_of_their_own() {
    let (jit, (folder, _alone)) = (Jit::default(), folder("map"));
    let tell = Tell { perf_map: true, jitdump: true, gdb: false };
    let teller = Teller::in_folder(tell, &folder);
    let stubs = [0, 1, 2].map(|word| jit.compile(&returns(word), 0).unwrap());
    teller.tell("one", &stubs[0]).unwrap();
    teller.tell("two", &stubs[1]).unwrap();
    teller.tell("another", &stubs[0]).unwrap();
    let lines = |names: &[&str]| -> String {
        let each = names
            .iter()
            .zip(&stubs)
            .map(|(name, stub)| format!("{:x} {:x} hotcall::{name}\n", stub.entry(), stub.len()));
        each.collect()
    };
    let map = |id: u32| fs::read_to_string(folder.join(format!("perf-{id}.map"))).unwrap();
    assert_eq!(map(process::id()), lines(&["one", "two"]));

    let child = || {
        teller.tell("three", &stubs[2]).unwrap();
        let names = [(0, "one"), (1, "two"), (2, "three")];
        map(process::id()) == lines(&["one", "two", "three"])
            && dumped(&folder) == names.map(|(index, name)| (index, format!("hotcall::{name}")))
    };
    assert!(forked(|| {}, child));
    assert_eq!(map(process::id()), lines(&["one", "two"]));
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn the_dump_has_names_and_code() {
    let (jit, (folder, _alone)) = (Jit::default(), folder("dump"));
    let teller = Teller::in_folder(Tell { jitdump: true, ..Tell::default() }, &folder);
    let stub = jit.compile(&returns(7), 0).unwrap();
    teller.tell("a function", &stub).unwrap();
    let dump = fs::read(folder.join(format!("jit-{}.dump", process::id()))).unwrap();
    let word = |at: usize| u32::from_ne_bytes(dump[at..at + 4].try_into().unwrap());
    let long = |at: usize| u64::from_ne_bytes(dump[at..at + 8].try_into().unwrap());
    assert_eq!(
        [word(0), word(4), word(8), word(12), word(20)],
        [0x4a69_5444, 1, 40, 62, process::id()]
    );
    let record = 40;
    assert_eq!([word(record), word(record + 16)], [0, process::id()]);
    assert_eq!(record + word(record + 4) as usize, dump.len());
    assert_eq!([long(record + 24), long(record + 32)], [stub.entry(); 2]);
    assert_eq!([long(record + 40), long(record + 48)], [stub.len() as u64, 0]);
    let rest = [b"hotcall::a function\0", stub.code()].concat();
    assert_eq!(dump[record + 56..], rest[..]);
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn what_another_program_has_dumped_is_gone() {
    let (jit, (folder, _alone)) = (Jit::default(), folder("stale"));
    fs::write(folder.join(format!("jit-{}.dump", process::id())), [7; 99]).unwrap();
    let teller = Teller::in_folder(Tell { jitdump: true, ..Tell::default() }, &folder);
    teller.tell("one", &jit.compile(&returns(7), 0).unwrap()).unwrap();
    assert_eq!(dumped(&folder), [(0, "hotcall::one".to_owned())]);
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn several_in_a_process_write_one_dump() {
    let (jit, (folder, _alone)) = (Jit::default(), folder("several"));
    let tell = Tell { jitdump: true, ..Tell::default() };
    let tellers = [0, 1].map(|_| Teller::in_folder(tell, &folder));
    let told: Vec<(u64, String)> = (0..4)
        .map(|index| {
            let stub = jit.compile(&returns(index), 0).unwrap();
            tellers[index as usize % 2].tell(&index.to_string(), &stub).unwrap();
            (index, format!("hotcall::{index}"))
        })
        .collect();
    assert_eq!(dumped(&folder), told);
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_folder_that_is_not_there_is_an_error() {
    let jit = Jit::default();
    let tell = Tell { perf_map: true, jitdump: true, gdb: false };
    let teller = Teller::in_folder(tell, Path::new("/nowhere/at/all"));
    let stub = jit.compile(&returns(7), 0).unwrap();
    assert_eq!(teller.tell("name", &stub).unwrap_err().kind(), io::ErrorKind::NotFound);
    let another = jit.compile(&returns(8), 0).unwrap();
    assert!(teller.tell("another", &another).is_ok(), "it is said once");
}

#[test]
fn object_files_have_their_sections_in_place() {
    let stub = Jit::default().compile(&returns(7), 0).unwrap();
    let file = elf::object("hotcall::name", &stub);
    let short = |at: usize| usize::from(u16::from_le_bytes(file[at..at + 2].try_into().unwrap()));
    let long = |at: usize| u64::from_le_bytes(file[at..at + 8].try_into().unwrap()) as usize;
    assert_eq!(&file[..4], b"\x7fELF");
    assert_eq!([short(52), short(58), short(60), short(62)], [64, 64, 6, 5]);
    let section = |index: usize| 64 + 64 * index;
    assert_eq!(long(section(1) + 16) as u64, stub.entry());
    assert_eq!(long(section(1) + 32), stub.len());
    let texts = long(section(4) + 24);
    assert_eq!(&file[texts + 1..texts + 14], b"hotcall::name");
    let unwinding = long(section(2) + 24);
    let table = crate::unwind::table(stub.entry(), stub.len(), &stub.rows);
    assert_eq!(file[unwinding..unwinding + table.len()], table);
}
