//! One started `podl` process: its log file, its end.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a process may take to stop cleanly; interfaces promise ten seconds.
pub const STOP_LIMIT: Duration = Duration::from_secs(10);

/// A child process of a test network. Dropping it kills it, so that a failed test leaves nothing behind.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// By itself, within the limit, with this status.
    Clean(Option<i32>),
    /// It did not stop in time and was killed.
    Killed,
}

impl Process {
    /// Starts `program` with its output appended to `dir/name.log`.
    ///
    /// # Errors
    /// When the log cannot be opened or the program not be started.
    pub fn start(program: &Path, args: &[String], env: &[(&str, &str)], dir: &Path, name: &str) -> io::Result<Self> {
        std::fs::create_dir_all(dir)?;
        let log = dir.join(format!("{name}.log"));
        let out = File::options().create(true).append(true).open(&log)?;
        let mut command = Command::new(program);
        command.args(args).envs(env.iter().copied()).stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out);
        // A process group of its own: Ctrl-C on the terminal reaches only the parent, which then ends its children
        // in an order that keeps the network whole.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        Ok(Self { name: name.into(), child: command.spawn()?, log })
    }

    /// Its name in the network.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where its output goes.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its exit status if it has ended, else `None`.
    ///
    /// # Errors
    /// When the system cannot tell.
    pub fn ended(&mut self) -> io::Result<Option<std::process::ExitStatus>> {
        self.child.try_wait()
    }

    /// Asks it to stop, as a service manager would (SIGTERM), without waiting.
    pub fn ask_to_stop(&self) {
        self.signal(rustix::process::Signal::TERM);
    }

    /// Kills it at once (SIGKILL), as a power cut would, and waits until it is gone.
    ///
    /// # Errors
    /// When the system cannot wait for it.
    pub fn kill(&mut self) -> io::Result<()> {
        if self.ended()?.is_none() {
            self.child.kill()?;
        }
        self.child.wait().map(drop)
    }

    /// Waits until it has stopped, and kills it when that takes longer than [`STOP_LIMIT`].
    ///
    /// # Errors
    /// When the system cannot tell.
    pub fn wait_stopped(&mut self) -> io::Result<Ending> {
        let deadline = Instant::now() + STOP_LIMIT;
        loop {
            if let Some(status) = self.ended()? {
                return Ok(Ending::Clean(status.code()));
            }
            if Instant::now() >= deadline {
                self.kill()?;
                return Ok(Ending::Killed);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Stops it cleanly; kills it when that fails.
    ///
    /// # Errors
    /// When the system cannot tell.
    pub fn stop(&mut self) -> io::Result<Ending> {
        self.ask_to_stop();
        self.wait_stopped()
    }

    /// The last lines of its log, for an error message.
    pub fn log_tail(&self, lines: usize) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let all: Vec<&str> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let Some(pid) = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw) else { return };
        // It may have ended a moment ago: then there is nothing to signal. Its id is not reused before it is waited for.
        let _ = rustix::process::kill_process(pid, signal);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Nothing can be done about a failure here, and the network is going away.
        let _ = self.kill();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, dir: &Path) -> Process {
        Process::start(Path::new("/bin/sh"), &["-c".into(), script.into()], &[], dir, "sh").unwrap()
    }

    #[test]
    fn stops_cleanly_and_keeps_the_log() {
        let dir = tempfile::tempdir().unwrap();
        let mut process = shell("trap 'echo bye; exit 3' TERM; echo hello; while :; do sleep 0.05; done", dir.path());
        while !process.log_tail(1).contains("hello") {
            std::thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(process.stop().unwrap(), Ending::Clean(Some(3)));
        assert_eq!(process.log_tail(2), "hello\nbye");
    }

    #[test]
    fn a_dropped_process_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let process = shell("exec sleep 1000", dir.path());
        let pid = rustix::process::Pid::from_raw(i32::try_from(process.id()).unwrap()).unwrap();
        drop(process);
        assert!(rustix::process::test_kill_process(pid).is_err());
    }
}
