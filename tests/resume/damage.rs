//! Checkpoints that the disk or a person spoiled: found, told, and the good one before is used.

use super::*;
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;

/// A run that was stopped with two checkpoints, and their names.
fn stopped() -> (tempfile::TempDir, Vec<String>) {
    let dir = tempfile::tempdir().unwrap();
    stop(dir.path(), &recipe(&[]), 8);
    let names = steps(dir.path());
    assert_eq!(names.len(), 2, "{names:?}");
    (dir, names)
}

#[test]
fn ten_thousand_changes_of_a_checkpoint_are_all_found() {
    let (dir, names) = stopped();
    let folder = dir.path().join("checkpoints").join(&names[1]);
    let mut tried = 0;
    for name in ["checkpoint.json", "state.safetensors"] {
        let path = folder.join(name);
        let whole = fs::read(&path).unwrap();
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        let mut refused = |what: String| {
            let told = match open_checkpoint(&folder) {
                Ok(_) => panic!("{name}: {what} went unseen"),
                Err(e) => e.to_string(),
            };
            assert!(told.contains(names[1].as_str()) && !told.contains('\n'), "{told}");
            tried += 1;
        };
        // Every bit of the first and last bytes, where lengths and seals are, and bits all over.
        let n = whole.len();
        let ends =
            (0..128.min(n)).chain(n - 128.min(n)..n).flat_map(|at| (0..8).map(move |b| (at, b)));
        let all_over = (0..3000usize).map(|i| ((i * 7919 + i * i * 31) % n, i % 8));
        for (at, bit) in ends.chain(all_over) {
            file.write_all_at(&[whole[at] ^ 1 << bit], at as u64).unwrap();
            refused(format!("bit {bit} of byte {at}"));
            file.write_all_at(&whole[at..=at], at as u64).unwrap();
        }
        for i in 0..100 {
            let end = i * (n - 1) / 99;
            file.set_len(end as u64).unwrap();
            refused(format!("cut to {end} bytes"));
            file.write_all_at(&whole[end..], end as u64).unwrap();
        }
        file.write_all_at(b"x", n as u64).unwrap();
        refused("a byte more".into());
        file.set_len(n as u64).unwrap();
    }
    assert!(tried > 10_000, "{tried}");
    assert!(open_checkpoint(&folder).is_ok(), "the sound one still opens");
}

fn spoil(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[test]
fn of_a_damaged_checkpoint_the_one_before_is_used() {
    for file in ["checkpoint.json", "state.safetensors"] {
        let (dir, names) = stopped();
        let of = |i: usize| dir.path().join("checkpoints").join(&names[i]).join(file);
        spoil(&of(1));
        let observer = StopAt::new(u64::MAX);
        go(dir.path(), &recipe(&[]), false, &observer).unwrap();
        let told = observer.told();
        assert!(told.contains(&names[1]) && told.contains("an older checkpoint is used"), "{told}");
        assert_same(dir.path(), truth(), "from the checkpoint before");
    }
}

#[test]
fn where_none_is_whole_the_run_does_not_start_over_unasked() {
    let (dir, names) = stopped();
    for name in &names {
        spoil(&dir.path().join("checkpoints").join(name).join("state.safetensors"));
    }
    let before = files(dir.path());
    let told = go(dir.path(), &recipe(&[]), false, &Silent).unwrap_err().to_string();
    for words in ["none of the 2 is whole", "--fresh", names[0].as_str(), names[1].as_str()] {
        assert!(told.contains(words), "{told}");
    }
    assert!(files(dir.path()) == before, "nothing is touched");
    go(dir.path(), &recipe(&[]), true, &Silent).unwrap();
    assert_same(dir.path(), truth(), "anew");
}
