//! External processes that behave and misbehave.

use super::super::recipe::ExternalRecipe;
use super::*;

/// An external reward that runs `script` in a shell.
fn external(script: &str, seconds: f64, retries: u64) -> External {
    let command = ["/bin/sh", "-c", script].map(String::from).to_vec();
    let recipe = ExternalRecipe {
        command,
        start_seconds: seconds,
        seconds,
        retries,
        ..ExternalRecipe::default()
    };
    External::new(&recipe, &data()).unwrap()
}

fn ask(reward: &mut External) -> crate::Result<Vec<f64>> {
    let mut out = Vec::new();
    reward.score(&prompt(1), &GROUP, &mut out).map(|()| out)
}

fn met(reward: &External, what: &str) -> u64 {
    reward.troubles().into_iter().find(|t| t.0 == what).unwrap().1
}

/// Answers each line with the line's own number.
const ANSWER: &str = r#"n=0; while read line; do n=$((n+1)); echo "{\"id\": $n, \"rewards\": [$n, 0, 0.5, -1]}"; done"#;

#[test]
fn a_process_is_asked_line_by_line() {
    let mut good = external(ANSWER, 20.0, 0);
    assert_eq!(ask(&mut good).unwrap(), [1.0, 0.0, 0.5, -1.0]);
    assert_eq!(ask(&mut good).unwrap(), [2.0, 0.0, 0.5, -1.0], "the same process");
    assert!(good.troubles().iter().all(|t| t.1 == 0));
    // What it is asked.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("asked");
    let script = format!(
        "read line; echo \"$line\" > {}; echo '{{\"id\": 1, \"rewards\": [1, 2, 3, 4]}}'; read x",
        file.display()
    );
    ask(&mut external(&script, 20.0, 0)).unwrap();
    let asked: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    assert_eq!(asked["history"], serde_json::json!(["i0"]));
    assert_eq!((&asked["user"], &asked["target"]), (&"a".into(), &"i1".into()));
    let second = serde_json::json!({"codes": [0, 1], "items": ["i1"], "log_probability": -2.0});
    assert_eq!(asked["answers"][1], second);
}

/// A script that behaves as its first line says on its first start and as it should on the second.
fn once(folder: &std::path::Path, misbehave: &str) -> String {
    let mark = folder.join("second").display().to_string();
    format!("if [ -e {mark} ]; then {ANSWER}; else : > {mark}; {misbehave}; fi")
}

#[test]
fn a_process_that_dies_hangs_or_babbles_is_started_anew() {
    for (misbehave, what, limit) in [
        ("read line; exit 3", "died", 20.0),
        ("exec sleep 60", "hung", 0.3),
        ("read line; echo what?; read line", "garbage", 20.0),
        ("read line; echo '{\"id\": 9, \"rewards\": [1]}'; read line", "garbage", 20.0),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let mut reward = external(&once(folder.path(), misbehave), limit, 1);
        match ask(&mut reward) {
            Ok(rewards) => assert_eq!(rewards, [1.0, 0.0, 0.5, -1.0]),
            // A machine so busy that the second one is not up in time either.
            Err(e) => assert!(limit < 1.0, "{e}"),
        }
        assert!(met(&reward, what) >= 1 && met(&reward, "restarts") == 1, "{misbehave}");
    }
}

#[test]
fn what_cannot_be_mended_is_named_and_counted() {
    let mut dead = external("exit 7", 20.0, 2);
    let told = ask(&mut dead).unwrap_err().to_string();
    assert!(told.contains("died (exit status: 7)") && told.contains("after 3 tries"), "{told}");
    assert_eq!((met(&dead, "died"), met(&dead, "restarts")), (3, 2));
    let mut hung = external("exec sleep 60", 0.1, 0);
    let told = ask(&mut hung).unwrap_err().to_string();
    assert!(told.contains("no answer within 0.1 s") && met(&hung, "hung") == 1, "{told}");

    // Too few numbers and NaN are answers: nobody asks again, the composition names them.
    for (answer, fault, words) in [
        ("[1, 2]", Fault::Count, "gave 2 numbers for 4 answers"),
        ("[]", Fault::Count, "gave 0 numbers"),
        ("[1, NaN, 0, 0]", Fault::NotFinite, "gave NaN for answer 1"),
        ("[1, 0, null, 0]", Fault::NotFinite, "gave NaN for answer 2"),
    ] {
        let script = format!("read line; echo '{{\"id\": 1, \"rewards\": {answer}}}'; read line");
        let mut rewards = Rewards::empty(OnBad::Drop, 0);
        rewards.push(Box::new(external(&script, 20.0, 2)), share(1.0, Normalise::None, 0.0));
        let bad = rewards.judge(&prompt(1), &GROUP).unwrap().bad.unwrap();
        assert!(bad.fault == fault && bad.problem.contains(words), "{bad}");
        assert!(rewards.troubles().is_empty());
    }
    let mut rewards = Rewards::empty(OnBad::Drop, 0);
    rewards.push(Box::new(external("exit 1", 20.0, 0)), share(1.0, Normalise::None, 0.0));
    assert_eq!(rewards.judge(&prompt(1), &GROUP).unwrap().bad.unwrap().fault, Fault::Failed);
    assert_eq!(rewards.troubles(), [("external".to_string(), "died", 1)]);
}

#[test]
fn a_dropped_reward_leaves_no_process() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pid");
    let script = format!("echo $$ > {}; {ANSWER}", file.display());
    let mut reward = external(&script, 20.0, 0);
    ask(&mut reward).unwrap();
    let pid = std::fs::read_to_string(&file).unwrap();
    let alive = || std::path::Path::new("/proc").join(pid.trim()).exists();
    let linux = std::path::Path::new("/proc/self").exists();
    assert!(!linux || alive());
    drop(reward);
    assert!(!alive());
}
