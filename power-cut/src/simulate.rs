//! Runs workloads, makes images of them, has each checked in a process of its own, and counts.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fs::{self, File};
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::ValueEnum as _;

use crate::expectation::Expectation;
use crate::gateway::step::Step;
use crate::image::{self, Index};
use crate::random::Random;
use crate::recorder::Control;
use crate::trace::{Event, Trace};
use crate::workload::{self, Run, Workload};

/// Images of one recording.
const IMAGES_PER_RUN: usize = 40;
/// Cuts in a row in the workload `recovery`.
const GENERATIONS: usize = 5;
/// Lives of the broker in the workload `broker`, but for those after the cuts that are looked at.
const LIVES: usize = 3;
/// A process that takes longer hangs.
const PROCESS_MAX: Duration = Duration::from_secs(300);
/// Recordings with bad images that are kept for a look.
const KEPT_MAX: usize = 20;
/// First word of the lines in which a process tells what it found.
pub(crate) const FINDING: &str = "finding\t";
/// The line without which a process has died before its time.
pub(crate) const DONE: &str = "done";

/// What is asked for.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) images: usize,
    pub(crate) seed: u64,
    pub(crate) workloads: Vec<Workload>,
    pub(crate) control: Option<Control>,
    pub(crate) jobs: usize,
    /// Where recordings of bad images go.
    pub(crate) keep: PathBuf,
    /// A program that runs ours on another processor, with its arguments.
    pub(crate) runner: Vec<String>,
    /// How the images of a recording are made again.
    pub(crate) again: String,
}

/// What a workload came to.
#[derive(Debug, Default)]
pub(crate) struct Row {
    pub(crate) images: usize,
    pub(crate) bad: usize,
    /// Images with a copy of segments that was not complete.
    pub(crate) copying: usize,
    /// Images with a complete copy beside what it was made of.
    pub(crate) switching: usize,
    /// Of each kind of step of a delivery, a session or a checkpoint, the images cut near it.
    pub(crate) steps: BTreeMap<Step, usize>,
    /// Bad images by what was wrong with them; one may be wrong in several ways.
    pub(crate) kinds: BTreeMap<String, usize>,
}

/// A run and its images.
#[derive(Clone, Copy, Debug)]
struct Job {
    run: Run,
    images: usize,
}

/// Everything that the workers share.
struct Simulation<'a> {
    options: &'a Options,
    jobs: Vec<Job>,
    next: AtomicUsize,
    kept: AtomicUsize,
    stop: AtomicBool,
    rows: Mutex<BTreeMap<Workload, Row>>,
}

/// Runs it all; returns a row for each workload.
pub(crate) fn simulate(options: &Options) -> Result<BTreeMap<Workload, Row>> {
    let simulation = Simulation {
        options,
        jobs: jobs(options),
        next: AtomicUsize::new(0),
        kept: AtomicUsize::new(0),
        stop: AtomicBool::new(false),
        rows: Mutex::new(BTreeMap::new()),
    };
    thread::scope(|scope| {
        let work = || {
            let done = simulation.work();
            if done.is_err() {
                simulation.stop.store(true, Ordering::Relaxed);
            }
            done
        };
        let workers: Vec<_> = (0..options.jobs.max(1))
            .map(|_| scope.spawn(work))
            .collect();
        workers.into_iter().try_for_each(|worker| {
            let done = worker.join();
            done.unwrap_or_else(|_| Err(anyhow::anyhow!("a worker panicked")))
        })
    })?;
    Ok(simulation
        .rows
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner))
}

/// The images shared out among the workloads, and theirs among recordings.
fn jobs(options: &Options) -> Vec<Job> {
    let mut jobs = Vec::new();
    let each = options.images.div_ceil(options.workloads.len().max(1));
    let runs = each.div_ceil(IMAGES_PER_RUN);
    // Turn about, so that a run that is broken off has seen all of them.
    for run in 0..runs {
        for workload in &options.workloads {
            let of = u64::try_from(run * 100).unwrap_or(0) + *workload as u64;
            // Short enough to be typed.
            let seed = Random::new(options.seed, of).next() % 1_000_000_000;
            let seed = seed - seed % image::SEEDS_OF_A_FOLDER;
            let images = (each * (run + 1) / runs) - (each * run / runs);
            let (workload, control) = (*workload, options.control);
            let run = Run {
                workload,
                seed,
                control,
            };
            jobs.push(Job { run, images });
        }
    }
    jobs
}

impl Simulation<'_> {
    fn work(&self) -> Result<()> {
        while !self.stop.load(Ordering::Relaxed) {
            let Some(job) = self.jobs.get(self.next.fetch_add(1, Ordering::Relaxed)) else {
                break;
            };
            let scratch = scratch()?;
            let (workload, seed) = (job.run.workload.name(), job.run.seed);
            self.run(*job, scratch.path())
                .with_context(|| format!("workload {workload}, seed {seed}"))?;
            self.tell_progress();
        }
        Ok(())
    }

    /// One line that is written over, for whoever watches.
    fn tell_progress(&self) {
        let rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        let images: usize = rows.values().map(|row| row.images).sum();
        let bad: usize = rows.values().map(|row| row.bad).sum();
        if std::io::stderr().is_terminal() {
            eprint!("\r{images} of {} images, {bad} bad ", self.options.images);
        }
    }

    fn run(&self, job: Job, scratch: &Path) -> Result<()> {
        let folder = scratch.join("data");
        fs::create_dir(&folder).context("make a folder")?;
        match job.run.workload {
            Workload::Recovery => {
                let first = workload::before_recovery(job.run.seed);
                self.run_generations(job, first, GENERATIONS, folder, scratch)
            }
            // A folder that has lost something is no ground for promises.
            Workload::Broker if job.run.control.is_none() => {
                self.run_generations(job, Workload::Broker, LIVES, folder, scratch)
            }
            workload => self.run_generations(job, workload, 1, folder, scratch),
        }
    }

    /// Cuts a recording; records what is done to what is left, cuts that, and so on.
    fn run_generations(
        &self,
        job: Job,
        first: Workload,
        generations: usize,
        mut folder: PathBuf,
        scratch: &Path,
    ) -> Result<()> {
        let mut run = Run {
            workload: first,
            ..job.run
        };
        let mut before: Option<PathBuf> = None;
        for generation in 0..generations {
            let path = scratch.join(format!("trace-{generation}"));
            let findings = self.record(run, &folder, before.as_deref(), &path)?;
            if !findings.is_empty() {
                // The image that it began with is bad; its recording is the one before.
                let earlier = generation.saturating_sub(1);
                let path = scratch.join(format!("trace-{earlier}"));
                return self.count(job.run, &findings, &path, Some(job.images + earlier));
            }
            let trace = Trace::load(&path)?;
            let index = Index::new(&trace);
            let share = |generation| job.images * generation / generations;
            for number in share(generation)..share(generation + 1) {
                let bad = self.try_image(job.run.workload, (&trace, &index), number, scratch)?;
                self.count(job.run, &bad, &path, Some(number))?;
            }
            if generation + 1 == generations {
                break;
            }
            fs::remove_dir_all(&folder).context("remove a folder")?;
            folder = scratch.join(format!("data-{generation}"));
            let expected = make_image(&trace, &index, job.images + generation, &folder)?;
            let expectation = scratch.join(format!("before-{generation}"));
            save(&expected, &expectation)?;
            before = Some(expectation);
            run = Run {
                workload: job.run.workload,
                seed: run.seed + 1,
                ..run
            };
        }
        Ok(())
    }

    /// Has a workload recorded; findings are of the folder that it began with.
    fn record(
        &self,
        run: Run,
        folder: &Path,
        before: Option<&Path>,
        trace: &Path,
    ) -> Result<Vec<Bad>> {
        let mut command = self.own("record")?;
        let seed = run.seed.to_string();
        command.args(["--workload", run.workload.name(), "--seed", &seed]);
        command
            .arg("--folder")
            .arg(folder)
            .arg("--trace")
            .arg(trace);
        if let Some(control) = run.control.and_then(|control| control.to_possible_value()) {
            command.args(["--control", control.get_name()]);
        }
        if let Some(before) = before {
            command.arg("--before").arg(before);
        }
        let ended = finish(&mut command, &trace.with_extension("output"))?;
        let died = ended.findings.is_empty() && !trace.exists();
        ensure!(
            before.is_some() || !died,
            "the workload could not be recorded: {}",
            ended.output
        );
        Ok(ended.findings)
    }

    fn try_image(
        &self,
        workload: Workload,
        (trace, index): (&Trace, &Index<'_>),
        number: usize,
        scratch: &Path,
    ) -> Result<Vec<Bad>> {
        let folder = scratch.join("image");
        let expectation = scratch.join("expectation");
        let expected = make_image(trace, index, number, &folder)?;
        self.count_evacuation(workload, &folder)?;
        self.count_steps(workload, trace, index.cut(u64::try_from(number)?).0.at);
        save(&expected, &expectation)?;
        let mut command = self.own("check")?;
        command.arg("--folder").arg(&folder);
        command.arg("--expectation").arg(&expectation);
        let ended = finish(&mut command, &scratch.join("output"))?;
        fs::remove_dir_all(&folder).context("remove an image")?;
        Ok(ended.findings)
    }

    /// Looks whether the cut fell into the evacuation of segments: a run that met none proves
    /// nothing of it.
    fn count_evacuation(&self, workload: Workload, image: &Path) -> Result<()> {
        let Ok(entries) = fs::read_dir(image.join("log")) else {
            return Ok(());
        };
        let mut names = Vec::new();
        for entry in entries {
            let name = entry.context("read an image")?.file_name();
            names.push(name.to_string_lossy().into_owned());
        }
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        let row = rows.entry(workload).or_default();
        row.copying += usize::from(names.iter().any(|name| name.ends_with(".new")));
        row.switching += usize::from(is_beside_its_sources(&names));
        Ok(())
    }

    /// Of each kind of step, whether the cut came right before or after one.
    fn count_steps(&self, workload: Workload, trace: &Trace, cut: usize) {
        let first = (cut + 1).saturating_sub(image::NEAR_EVENTS);
        let near = trace.events.iter().take(cut + 1).skip(first);
        let steps: BTreeSet<_> = near.filter_map(Event::step).collect();
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        let row = rows.entry(workload).or_default();
        for step in steps {
            *row.steps.entry(step).or_default() += 1;
        }
    }

    fn own(&self, task: &str) -> Result<Command> {
        let own = env::current_exe().context("find this program's path")?;
        let mut command = match self.options.runner.split_first() {
            Some((runner, arguments)) => {
                let mut command = Command::new(runner);
                command.args(arguments).arg(own);
                command
            }
            None => Command::new(own),
        };
        command.arg(task);
        Ok(command)
    }

    fn count(&self, run: Run, bad: &[Bad], trace: &Path, image: Option<usize>) -> Result<()> {
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        let row = rows.entry(run.workload).or_default();
        row.images += 1;
        if bad.is_empty() {
            return Ok(());
        }
        row.bad += 1;
        let mut kinds: Vec<_> = bad.iter().map(|bad| bad.kind.clone()).collect();
        kinds.sort();
        kinds.dedup();
        for kind in kinds {
            *row.kinds.entry(kind).or_default() += 1;
        }
        let is_kept = self.kept.fetch_add(1, Ordering::Relaxed) < KEPT_MAX;
        if self.options.control.is_some() || !is_kept {
            return Ok(());
        }
        fs::create_dir_all(&self.options.keep).context("make the folder for bad images")?;
        let stem = trace.file_name().unwrap_or_default().to_string_lossy();
        let name = format!("{}-{}-{stem}", run.workload.name(), run.seed);
        let kept = self.options.keep.join(name);
        fs::copy(trace, &kept).context("keep the recording of a bad image")?;
        let image = image.unwrap_or(0);
        println!("bad: workload {}, seed {}", run.workload.name(), run.seed);
        for bad in bad {
            println!("  {}: {}", bad.kind, bad.what);
        }
        let again = &self.options.again;
        println!(
            "  again: {again} --trace {} --image {image}",
            kept.display()
        );
        Ok(())
    }
}

/// Whether one of the segments is a copy, called `FIRST-LAST.GENERATION`, of another of them.
fn is_beside_its_sources(names: &[String]) -> bool {
    let is_copy_of = |copy: &String, source: &String| {
        let Some((first, (last, _))) = copy
            .split_once('-')
            .and_then(|(first, rest)| Some((first, rest.split_once('.')?)))
        else {
            return false;
        };
        let of_source = source.split(['-', '.']).next().unwrap_or_default();
        copy != source && !copy.ends_with(".new") && (first..=last).contains(&of_source)
    };
    let is_switching = |copy| names.iter().any(|source| is_copy_of(copy, source));
    names.iter().any(is_switching)
}

/// Something that was found, by its kind.
#[derive(Clone, Debug)]
pub(crate) struct Bad {
    pub(crate) kind: String,
    pub(crate) what: String,
}

struct Ended {
    findings: Vec<Bad>,
    output: String,
}

/// Makes image `number` in `folder`; returns what must be in it.
pub(crate) fn make_image(
    trace: &Trace,
    index: &Index<'_>,
    number: usize,
    folder: &Path,
) -> Result<Expectation> {
    let (cut, mut random) = index.cut(u64::try_from(number)?);
    image::write(&index.image(cut, &mut random), folder)?;
    Ok(Expectation::at(trace, cut.at))
}

fn save(expected: &Expectation, path: &Path) -> Result<()> {
    let encoded = postcard::to_stdvec(expected).context("encode what is expected")?;
    fs::write(path, encoded).context("write what is expected")
}

/// Runs one of our processes to its end, and reads what it says.
fn finish(command: &mut Command, output: &Path) -> Result<Ended> {
    let file = File::create(output).context("make a file for the output")?;
    command
        .stdin(Stdio::null())
        .stderr(file.try_clone().context("copy a file")?)
        .stdout(file);
    let mut child = command.spawn().context("start a process")?;
    let begun = Instant::now();
    let status: Option<ExitStatus> = loop {
        if let Some(status) = child.try_wait().context("wait for a process")? {
            break Some(status);
        }
        if begun.elapsed() > PROCESS_MAX {
            child.kill().context("end a process that hangs")?;
            child.wait().context("wait for a process")?;
            break None;
        }
        thread::sleep(Duration::from_millis(1));
    };
    let output = String::from_utf8_lossy(&fs::read(output)?).into_owned();
    let told = output.lines().filter_map(|line| line.strip_prefix(FINDING));
    let mut findings: Vec<Bad> = told
        .map(|line| {
            let (kind, what) = line.split_once('\t').unwrap_or((line, ""));
            let (kind, what) = (kind.to_owned(), what.to_owned());
            Bad { kind, what }
        })
        .collect();
    if !output.lines().any(|line| line == DONE) {
        let kind = if status.is_some() { "died" } else { "hangs" };
        let tail: Vec<_> = output.lines().rev().take(5).collect();
        let what = format!("{status:?} {}", tail.join(" | "));
        findings.push(Bad {
            kind: kind.to_owned(),
            what,
        });
    }
    Ok(Ended { findings, output })
}

/// A folder in memory if there is room, since nothing here needs a disk.
fn scratch() -> Result<tempfile::TempDir> {
    let memory = Path::new("/dev/shm");
    let place = if memory.is_dir() {
        memory.to_owned()
    } else {
        env::temp_dir()
    };
    let mut builder = tempfile::Builder::new();
    let scratch = builder.prefix("power-cut-").tempdir_in(place);
    scratch.context("make a scratch folder")
}

/// The table.
pub(crate) fn report(rows: &BTreeMap<Workload, Row>, out: &mut impl std::io::Write) -> Result<()> {
    writeln!(
        out,
        "{:<10} {:>7} {:>8} {:>10} {:>6}  kinds",
        "workload", "images", "copying", "switching", "bad"
    )?;
    for (workload, row) in rows {
        let kinds = row
            .kinds
            .iter()
            .map(|(kind, count)| format!("{kind} {count}"));
        let kinds: Vec<_> = kinds.collect();
        writeln!(
            out,
            "{:<10} {:>7} {:>8} {:>10} {:>6}  {}",
            workload.name(),
            row.images,
            row.copying,
            row.switching,
            row.bad,
            kinds.join(", ")
        )?;
    }
    for (workload, row) in rows.iter().filter(|(_, row)| !row.steps.is_empty()) {
        writeln!(out, "{}: images that were cut near a step", workload.name())?;
        for step in Step::ALL {
            let count = row.steps.get(&step).copied().unwrap_or(0);
            writeln!(out, "  {:<38} {count:>5}", step.name())?;
        }
    }
    out.flush()?;
    Ok(())
}
