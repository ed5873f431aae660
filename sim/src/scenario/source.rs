//! A world as the source of a scenario that has its shape whatever seeds draw.

use std::fmt::Write as _;

use crate::knobs::{self, grouped};
use crate::plan::{Fault, What};
use crate::world::World;

/// The file of a scenario in which a judge objected.
pub(crate) fn write(world: &World, judge: &str, story: &str) -> String {
    let (seed, name) = (world.seed, name(world.seed, judge));
    let mut text = String::new();
    let _ = writeln!(text, "//! {story}\n");
    let faults: String = world.plan.iter().map(fault).collect();
    let lines: String = knobs::ALL.iter().map(|knob| line(world, knob)).collect();
    let rounds = rounds(world);
    if !rounds.is_empty() || faults.contains("Duration::") || lines.contains("Duration::") {
        text.push_str("use std::time::Duration;\n\n");
    }
    text.push_str("use super::Scenario;\nuse crate::cluster::Cluster;\n");
    if rounds.contains("LeftOut::") {
        text.push_str("use crate::ingredients::LeftOut;\n");
    }
    match (faults.is_empty(), faults.contains("DiskError::")) {
        (true, _) => {}
        (false, true) => text.push_str("use crate::plan::{DiskError, Fault, What};\n"),
        (false, false) => text.push_str("use crate::plan::{Fault, What};\n"),
    }
    if world.plant.is_some() {
        text.push_str("use crate::plant::Plant;\n");
    }
    text.push_str("use crate::world::{Options, World};\n\n");
    let options = match world.plant {
        Some(_) => "options",
        None => "options: Options::default",
    };
    let _ = writeln!(
        text,
        "pub(super) const SCENARIO: Scenario = Scenario {{\n    name: \"{name}\",\n    \
         seeds: {seed}..={seed},\n    {options},\n    shape,\n    shows,\n}};\n"
    );
    if let Some(plant) = world.plant {
        let _ = writeln!(
            text,
            "/// It needs a fault on purpose.\nfn options() -> Options {{\n    Options {{\n        \
             plant: Plant::named(\"{}\"),\n        ..Options::default()\n    }}\n}}\n",
            plant.name()
        );
    }
    let _ = write!(
        text,
        "/// What seed {seed} was shrunk to.\nfn shape(world: &mut World) {{\n{lines}{rounds}"
    );
    match faults.is_empty() {
        true => text.push_str("    world.plan.clear();\n}\n"),
        false => {
            let _ = writeln!(text, "    world.plan = vec![\n{faults}    ];\n}}");
        }
    }
    text.push_str(
        "\n/// How often the situation came about: to be counted by what makes it one.\n\
         fn shows(cluster: &Cluster) -> u64 {\n    cluster.counts.answers.get()\n}\n",
    );
    text
}

/// Only until somebody names it after the fact.
pub(crate) fn name(seed: u64, judge: &str) -> String {
    format!("seed_{seed}_keeps_{}", judge.replace('-', "_"))
}

fn line(world: &World, knob: &knobs::Knob) -> String {
    let value = (knob.source)((knob.get)(world));
    format!("    world.{} = {value};\n", knob.name)
}

/// What a run in rounds has beside: how long it goes on, and what of its later rounds is left out.
fn rounds(world: &World) -> String {
    if world.lasts.is_zero() {
        return String::new();
    }
    let seconds = grouped(world.lasts.as_secs());
    let mut text = format!("    world.lasts = Duration::from_secs({seconds});\n");
    let _ = writeln!(text, "    world.fixed = {};", world.fixed);
    // Later rounds are drawn, and from the same number.
    text.push_str("    world.left_out = LeftOut::draw(world.seed);\n");
    let planned = |number: &&u64| !world.plan.iter().any(|fault| fault.number == **number);
    let without: Vec<String> = world
        .without
        .iter()
        .filter(planned)
        .map(u64::to_string)
        .collect();
    let _ = writeln!(text, "    world.without = vec![{}];", without.join(", "));
    text
}

fn fault(fault: &Fault) -> String {
    let millis = |time: std::time::Duration| grouped(time.as_millis().try_into().unwrap_or(0));
    format!(
        "        Fault {{\n            number: {},\n            at: Duration::from_millis({}),\n            \
         lasts: Duration::from_millis({}),\n            what: {},\n        }},\n",
        fault.number,
        millis(fault.at),
        millis(fault.lasts),
        what(&fault.what)
    )
}

/// As Rust writes it. What is in brackets is a list.
fn what(what: &What) -> String {
    match what {
        What::LogWriteFails(member, error) => {
            format!("What::LogWriteFails({member}, DiskError::{error:?})")
        }
        other => format!("What::{other:?}").replace('[', "vec!["),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::plan::DiskError;
    use crate::world::Options;

    #[test]
    fn a_scenario_fixes_all_that_is_drawn() {
        let mut world = World::draw(7, &Options::default());
        let fault = |what| Fault {
            number: 2,
            at: Duration::from_millis(12_345),
            lasts: Duration::from_millis(20),
            what,
        };
        world.plan = vec![
            fault(What::Split(vec![1, 3])),
            fault(What::LogWriteFails(2, DiskError::Full)),
        ];
        let text = write(&world, "equal-states", "m1 differs");
        for line in [
            "//! m1 differs",
            "use crate::plan::{DiskError, Fault, What};",
            "    name: \"seed_7_keeps_equal_states\",",
            "    options: Options::default,",
            "            at: Duration::from_millis(12_345),",
            "            what: What::Split(vec![1, 3]),",
            "            what: What::LogWriteFails(2, DiskError::Full),",
        ] {
            assert!(text.lines().any(|it| it == line), "{line}\n{text}");
        }
        for knob in &knobs::ALL {
            assert!(text.contains(&format!("world.{} = ", knob.name)));
        }
        assert!(!text.contains("world.lasts"));
        let options = Options {
            hours: 2,
            without: vec![1003],
            ..Options::default()
        };
        let text = write(&World::draw(7, &options), "sum", "less");
        for line in [
            "use crate::ingredients::LeftOut;",
            "    world.lasts = Duration::from_secs(7200);",
            "    world.fixed = false;",
            "    world.left_out = LeftOut::draw(world.seed);",
            "    world.without = vec![1003];",
        ] {
            assert!(text.lines().any(|it| it == line), "{line}\n{text}");
        }
        world.plan.clear();
        let text = write(&world, "sum", "less");
        assert!(text.contains("world.plan.clear();") && !text.contains("Fault"));
    }
}
