//! How much memory training takes, before it starts.

use podl_consensus::workload::Network;

use super::kernels::conv::Scratch;
use super::kernels::geometry::Geometry;
use super::threads::PARTS;

/// Bytes that training this network takes at most, about: activations and their gradients, marks, parameters with
/// gradients and momentum, partial sums and each thread's scratch memory. Saturates.
pub fn training_bytes(network: &Network, batch: usize, threads: usize) -> u64 {
    let float = size_of::<f32>() as u64;
    let wide = |n: usize| n as u64;
    let mut activations = wide(network.input.values());
    let (mut scratch, mut partial) = (0u64, 0u64);
    for (index, conv) in network.convs.iter().enumerate() {
        let g = Geometry::new(conv, index == 0);
        // Value, gradient twice at most, and a mark of eight bits.
        activations = activations.saturating_add(wide(g.out_len()).saturating_mul(4));
        partial = partial.max(wide(g.out_pixel()).saturating_mul(wide(g.depth)));
        scratch = scratch.max(wide(Scratch::bytes(&g)));
    }
    activations =
        activations.saturating_add((u64::from(network.hidden.inputs) + u64::from(network.hidden.outputs)) * 4);
    // Value, quantised value, packed twice, gradient twice, momentum.
    let parameters = network.parameters().saturating_mul(7);
    let floats = activations
        .saturating_mul(wide(batch))
        .saturating_add(parameters)
        .saturating_add(partial.saturating_mul(wide(PARTS)));
    floats.saturating_mul(float).saturating_add(scratch.saturating_mul(wide(threads.max(1))))
}

/// Bytes that a program may still take: what the system has free, or what the control group's limit leaves, whichever is
/// less. None where the system does not say (other systems than Linux).
pub fn available_bytes() -> Option<u64> {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let meminfo = read("/proc/meminfo")?;
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let free = line.trim().split(' ').next()?.parse::<u64>().ok()?.saturating_mul(1024);
    let group = |file: &str| read(&format!("/sys/fs/cgroup/{file}"))?.trim().parse::<u64>().ok();
    let left = group("memory.max").zip(group("memory.current")).map(|(most, now)| most.saturating_sub(now));
    Some(left.map_or(free, |left| left.min(free)))
}
