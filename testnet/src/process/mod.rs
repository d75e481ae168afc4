//! Networks of real `podl` processes on this machine: each with its own keys, ports and data folder.

mod child;
mod faults;
mod manager_killed;
mod measure;
mod network;
mod ports;
mod report;

pub use child::{Ending, Process, STOP_LIMIT};
pub use faults::{Fault, Verdict, run as run_fault};
pub use measure::{Measured, Watch};
pub use network::{LocalNetwork, Plan, Task};
pub use report::{BlockLine, Follower, Summary};
