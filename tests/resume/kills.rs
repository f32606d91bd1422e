//! The program itself under kill -9: at every call that changes a file system, and at random times
//! (`SIDRA_KILLS` of them, 10 unless given; `scripts/kill-resume` asks for 500). It is started again until
//! it ends by itself, and must leave the bits of a run that nobody killed.

use super::*;
use engine::cpu::random::Stream;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// A folder with the data and a run's `out`; each run sees the same relative paths.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Place {
        let dir = tempfile::tempdir().unwrap();
        world().0.write(&dir.path().join("data")).unwrap();
        Place(dir)
    }

    fn out(&self) -> std::path::PathBuf {
        self.0.path().join("out")
    }

    fn start(&self, fault: Option<u64>) -> Child {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sidra"));
        command.args(["sft", "data=data", "out=out", "--threads", "1"]).args(KEYS);
        command.current_dir(self.0.path()).env_remove("SIDRA_FAULT");
        if let Some(at) = fault {
            command.env("SIDRA_FAULT", format!("kill@{at}"));
        }
        let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        quiet.spawn().unwrap()
    }

    /// Runs to the end, which must be a good one.
    fn finish(&self, what: &str) {
        let Output { status, stderr, .. } = self.start(None).wait_with_output().unwrap();
        assert!(status.success(), "{what}: {}", String::from_utf8_lossy(&stderr));
    }

    fn clear(&self) {
        fs::remove_dir_all(self.out()).unwrap();
    }
}

/// What the program leaves when nobody kills it, and how long it takes.
fn undisturbed(place: &Place) -> (Files, Duration) {
    let began = Instant::now();
    place.finish("undisturbed");
    let out = (files(&place.out()), began.elapsed());
    assert!(out.0.iter().any(|(name, _)| name == "model/model.safetensors"));
    place.clear();
    out
}

/// Kills at call 1, 2, … until a run ends before it is killed: the number of calls.
fn every_write_point(place: &Place, truth: &Files) -> u64 {
    for at in 1.. {
        let what = format!("killed at call {at}");
        let status = place.start(Some(at)).wait_with_output().unwrap().status;
        if status.success() {
            assert_same(&place.out(), truth, "the fault lies behind the end");
            place.clear();
            return at - 1;
        }
        assert!(status.code().is_none(), "{what}: it died of {status}, not by the fault");
        if place.out().exists() {
            assert_whole(&place.out(), &what);
        }
        place.finish(&what);
        assert_same(&place.out(), truth, &what);
        place.clear();
    }
    unreachable!("a run makes a finite number of calls")
}

/// Kills at random times until `kills` have hit a living run: how many runs they were spread over.
fn random_times(place: &Place, truth: &Files, took: Duration, kills: u64) -> u64 {
    let mut draw = Stream::new(0x5eed, 1).reader();
    let (mut hit, mut runs) = (0, 1);
    while hit < kills {
        let mut child = place.start(None);
        std::thread::sleep(took.mul_f64(draw.f64()));
        child.kill().unwrap(); // SIGKILL; nothing to do where it has ended
        let Output { status, stderr, .. } = child.wait_with_output().unwrap();
        if status.success() {
            assert_same(&place.out(), truth, &format!("run {runs}, after {hit} kills"));
            place.clear();
            runs += 1;
            continue;
        }
        let said = String::from_utf8_lossy(&stderr);
        assert!(status.code().is_none(), "it ended by itself with {status}: {said}");
        hit += 1;
        if place.out().exists() {
            assert_whole(&place.out(), &format!("kill {hit}"));
        }
    }
    place.finish("after the last kill");
    assert_same(&place.out(), truth, &format!("run {runs}, after {hit} kills"));
    runs
}

#[test]
fn killed_anywhere_it_ends_in_the_same_bits() {
    let kills = std::env::var("SIDRA_KILLS").map_or(10, |n| n.parse().expect("a number of kills"));
    let began = Instant::now();
    let place = Place::new();
    let (truth, took) = undisturbed(&place);
    let points = every_write_point(&place, &truth);
    assert!(points > 60, "only {points} write points: is the fault layer on?");
    let runs = random_times(&place, &truth, took, kills);
    println!(
        "kill-resume: {kills} random kills over {runs} runs and a kill at each of {points} write points: all \
         ended in the same bits ({} files, {:.0} s)",
        truth.len(),
        began.elapsed().as_secs_f64()
    );
}
