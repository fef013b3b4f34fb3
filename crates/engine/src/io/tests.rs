use super::fault::{Call, Fault, FaultIo};
use super::*;

fn temp(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("modelferry-io-{}-{name}", std::process::id()));
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir(&path).unwrap();
    path
}

#[test]
fn copies_by_every_way_there_is() {
    let dir = temp("copy");
    let bytes: Vec<u8> = (0..3_000_000u32).map(|n| ((n * 7) >> 3) as u8).collect();
    std::fs::write(dir.join("from"), &bytes).unwrap();
    let ways: [(&str, Box<dyn Io>); 5] = [
        ("kernel", Box::new(OsIo)),
        ("memory", Box::new(FaultIo::every(OsIo, &[Call::CopyRange], Fault::Errno(18)))),
        (
            "short",
            Box::new(FaultIo::every(OsIo, &[Call::CopyRange, Call::ReadAt, Call::WriteAt], Fault::Short)),
        ),
        ("interrupted", Box::new(FaultIo::new(OsIo, |seen| (seen.idx % 2 == 0).then_some(Fault::Errno(4))))),
        (
            "breaks off",
            Box::new(FaultIo::new(OsIo, |seen| match (seen.call, seen.idx) {
                (Call::CopyRange, ..5) => Some(Fault::Short),
                (Call::CopyRange, _) => Some(Fault::Errno(95)),
                _ => None,
            })),
        ),
    ];
    for (name, io) in ways {
        let io = &*io;
        let from = retry(|| io.open_read(&dir.join("from"))).unwrap();
        let to = retry(|| io.create_new(&dir.join(name))).unwrap();
        copy_all(io, &from, 3, &to, 1, bytes.len() as u64 - 10).unwrap();
        let copied = std::fs::read(dir.join(name)).unwrap();
        assert!(copied[0] == 0 && copied[1..] == bytes[3..bytes.len() - 7], "{name}");
        let error = copy_all(io, &from, 5, &to, 0, bytes.len() as u64).unwrap_err();
        assert!(error.to_string().contains("byte 3000000: the file ended early"), "{name}: {error}");
    }
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn renames_without_replacing_on_every_file_system() {
    const LACKS: [&[Call]; 3] = [&[], &[Call::RenameNoreplace], &[Call::RenameNoreplace, Call::HardLink]];
    for lacks in LACKS {
        let dir = temp("rename");
        let io = FaultIo::every(OsIo, lacks, Fault::Errno(22));
        let write = |name: &str| std::fs::write(dir.join(name), name).unwrap();
        let read = |name: &str| std::fs::read_to_string(dir.join(name)).ok();
        write("a");
        rename_new(&io, &dir.join("a"), &dir.join("b")).unwrap();
        assert_eq!((read("a"), read("b").as_deref()), (None, Some("a")));
        write("c");
        let error = rename_new(&io, &dir.join("c"), &dir.join("b")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!((read("c").as_deref(), read("b").as_deref()), (Some("c"), Some("a")));
        std::os::unix::fs::symlink("nowhere", dir.join("link")).unwrap();
        let error = rename_new(&io, &dir.join("c"), &dir.join("link")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        std::fs::remove_dir_all(dir).unwrap();
    }
}

#[test]
fn the_system_does_what_the_trait_says() {
    let dir = temp("os");
    let path = dir.join("f");
    let file = OsIo.create_new(&path).unwrap().shown_as("shown");
    assert_eq!(file.path(), Path::new("shown"));
    assert_eq!(OsIo.create_new(&path).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    allocate_or_set_len(&OsIo, &file, 1 << 20).unwrap();
    let stat = OsIo.stat(&file).unwrap();
    assert_eq!((stat.kind, stat.fingerprint.len), (FileKind::Regular, 1 << 20));
    assert_eq!(OsIo.stat_path(&path).unwrap(), stat);
    let lacking = FaultIo::every(OsIo, &[Call::Allocate], Fault::Errno(95));
    allocate_or_set_len(&lacking, &file, 2 << 20).unwrap();
    assert_eq!(OsIo.stat(&file).unwrap().fingerprint.len, 2 << 20);
    OsIo.try_lock(&file).unwrap();
    let again = OsIo.open_write(&path).unwrap();
    assert_eq!(OsIo.try_lock(&again).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    drop(file);
    OsIo.try_lock(&again).unwrap();
    std::os::unix::fs::symlink("f", dir.join("link")).unwrap();
    assert!(OsIo.open_write(&dir.join("link")).is_err());
    assert_eq!(OsIo.stat_link(&dir.join("link")).unwrap().kind, FileKind::Link);
    assert_eq!(OsIo.read_link(&dir.join("link")).unwrap(), Path::new("f"));
    std::fs::write(dir.join("g"), "g").unwrap();
    OsIo.rename_exchange(&path, &dir.join("g")).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"g");
    // Where the file system cannot share blocks it says so in a way we take for that.
    if let Err(error) = OsIo.clone_file(&OsIo.open_read(&path).unwrap(), &again) {
        assert!(is_unable(&error), "{error}");
    }
    advise_done(&OsIo, &again).unwrap();
    OsIo.advise(&again, 0, 100, Advice::Sequential).unwrap();
    OsIo.sync(&again).unwrap();
    OsIo.sync(&OsIo.open_dir(&dir).unwrap()).unwrap();
    assert!(OsIo.memory_bytes() > 1 << 20);
    assert!(OsIo.space(&dir).unwrap().total_bytes > 0);
    assert_eq!(OsIo.list_dir(&dir).unwrap().len(), 3);
    remove_tree(&OsIo, &dir).unwrap();
    assert!(!dir.exists());
    remove_tree(&OsIo, &dir).unwrap();
}
