//! The path around the kernels: captured graphs, uploads, bytes held, what an error says.

use crate::{CUDA, gpu, on_cuda, real};
use engine::ops::rmsnorm;
use engine::testing::{normal, poison};
use engine::{DType, Tensor};

/// A graph gives the bits of the launches that it was captured from, and reads its inputs anew each time.
#[test]
fn a_graph_replays_what_was_captured() {
    let Some(gpu) = gpu() else { return };
    let (rows, width) = (70, 33);
    let spec = rmsnorm::Spec { rows, width, eps: 1e-5 };
    let n = rows * width;
    let mut x = on_cuda(&[n], &normal(1, n, 1.0));
    let (w, dy) = (on_cuda(&[width], &normal(2, width, 1.0)), on_cuda(&[n], &normal(3, n, 1.0)));
    let (mut y, mut rstd) = (on_cuda(&[n], &poison(n)), on_cuda(&[rows], &poison(rows)));
    let (mut dx, mut dw) = (on_cuda(&[n], &poison(n)), on_cuda(&[width], &poison(width)));
    // The backward allocates scratch: in the graph that is the graph's own memory.
    let pass = |x: &Tensor, y: &mut Tensor, rstd: &mut Tensor, dx: &mut Tensor, dw: &mut Tensor| {
        rmsnorm::forward(&spec, x, &w, y, rstd)?;
        dw.zero()?;
        rmsnorm::backward(&spec, x, &w, rstd, &dy, dx, dw, false)
    };
    pass(&x, &mut y, &mut rstd, &mut dx, &mut dw).unwrap();
    let bits =
        |t: &Tensor| -> Vec<u32> { t.to_f32_vec().unwrap().iter().map(|v| v.to_bits()).collect() };
    let mut graph =
        gpu.capture(|| pass(&x, &mut y, &mut rstd, &mut dx, &mut dw)).expect("it can be captured");
    for seed in [1, 9, 10] {
        x.write_f32(&normal(seed, n, 1.0)).unwrap();
        graph.launch().unwrap();
        let replayed = [&y, &rstd, &dx, &dw].map(bits);
        let (mut y, mut rstd) = (on_cuda(&[n], &poison(n)), on_cuda(&[rows], &poison(rows)));
        let (mut dx, mut dw) = (on_cuda(&[n], &poison(n)), on_cuda(&[width], &poison(width)));
        pass(&x, &mut y, &mut rstd, &mut dx, &mut dw).unwrap();
        assert_eq!(replayed, [&y, &rstd, &dx, &dw].map(bits), "seed {seed}");
    }
}

/// What has no place in a graph is an error that says so, and the next capture is none the worse for it.
#[test]
fn what_cannot_be_captured_says_so() {
    let Some(gpu) = gpu() else { return };
    let mut x = on_cuda(&[8], &[1.0; 8]);
    let from_host = gpu.capture(|| x.write_f32(&[2.0; 8])).unwrap_err().to_string();
    assert!(from_host.contains("a copy from the host cannot be captured"), "{from_host}");
    let to_host = gpu.capture(|| x.to_f32_vec().map(drop)).unwrap_err().to_string();
    assert!(to_host.contains("a copy to the host"), "{to_host}");
    let grown = gpu.capture(|| x.try_resize(&[4096])).unwrap_err().to_string();
    assert!(grown.contains("a buffer that grows"), "{grown}");
    let mut y = on_cuda(&[8], &[3.0; 8]);
    let mut graph = gpu.capture(|| y.copy_from(&x)).unwrap();
    assert_eq!(y.to_f32_vec().unwrap(), [3.0; 8], "captured work has not run");
    graph.launch().unwrap();
    assert_eq!(y.to_f32_vec().unwrap(), [1.0; 8]);
}

/// Other threads' work goes on while one captures, and stays out of its graph.
#[test]
fn a_capture_holds_its_own_thread_alone() {
    let Some(gpu) = gpu() else { return };
    let (x, mut y) = (on_cuda(&[16], &[2.0; 16]), on_cuda(&[16], &[0.0; 16]));
    let mut graph = gpu
        .capture(|| {
            std::thread::scope(|scope| {
                let other = scope.spawn(|| {
                    let mut z = on_cuda(&[16], &[5.0; 16]);
                    z.copy_from(&x).unwrap();
                    z.to_f32_vec().unwrap()
                });
                assert_eq!(other.join().unwrap(), [2.0; 16], "it ran at once");
            });
            y.copy_from(&x)
        })
        .unwrap();
    assert_eq!(y.to_f32_vec().unwrap(), [0.0; 16]);
    graph.launch().unwrap();
    assert_eq!(y.to_f32_vec().unwrap(), [2.0; 16]);
}

/// Uploads of any size arrive, from slices that are changed at once.
#[test]
fn uploads_pass_through_pinned_memory() {
    if gpu().is_none() {
        return;
    }
    for n in [1, 1000, (1 << 18) + 3, 3 << 18] {
        let mut x: Vec<f32> = (0..n).map(|i| i as f32).collect();
        let mut there = Tensor::zeros_on(&[0], DType::F32, CUDA).unwrap();
        there.write_f32(&x).unwrap();
        x.fill(-1.0);
        let back = there.to_f32_vec().unwrap();
        assert!(back.iter().enumerate().all(|(i, &v)| v == i as f32), "{n} elements");
    }
    let ids: Vec<u32> = (0..99).collect();
    let mut there = Tensor::zeros_on(&[7], DType::U32, CUDA).unwrap();
    there.write_u32(&ids).unwrap();
    assert_eq!((there.shape(), there.to_u32_vec().unwrap()), (&[99][..], ids));
    assert!(there.write_f32(&[1.0]).is_err(), "of another type");
}

#[test]
fn out_of_memory_says_what_there_is() {
    let Some(gpu) = gpu() else { return };
    let said = Tensor::zeros_on(&[3 << 20, 1 << 20], DType::F32, CUDA).unwrap_err().to_string();
    for words in ["[3145728, 1048576] f32", "are held by this program", "free", "smaller batch"] {
        assert!(said.contains(words), "{words}: {said}");
    }
    let (_, total) = gpu.memory().unwrap();
    assert!(total > 0 && (real() || total == 8 << 30));
}
