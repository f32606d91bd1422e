//! dropout on a GPU: the stream of the CPU, so the same elements and the same bits.

use crate::{CUDA, bf16_on_cuda, gpu, on_cuda};
use engine::cpu::random::Stream;
use engine::ops::dropout::{self, Spec};
use engine::testing::{normal, round_bf16};
use engine::{DType, Tensor};

#[test]
fn draws_what_the_cpu_draws() {
    if gpu().is_none() {
        return;
    }
    let stream = Stream::new(0x0123_4567_89ab_cdef, 7 << 35 | 3);
    let words = Tensor::from_u32(&[4], stream.words().to_vec());
    let words_there = words.to(CUDA).unwrap();
    for (n, offset) in [(0, 0), (1, 3), (2061, 1 << 40), (4096, (1 << 34) - 2)] {
        let spec = Spec { len: n, p: 0.3 };
        let x = round_bf16(&normal(1, n, 1.0));
        let mut here = Tensor::from_f32(&[n], x.clone());
        dropout::forward(&spec, stream, offset, &mut here).unwrap();
        let want = here.f32().unwrap().to_vec();
        let mut again = Tensor::from_f32(&[n], x.clone());
        dropout::forward_from(&spec, &words, offset, &mut again).unwrap();
        assert_eq!(again.f32().unwrap(), want);
        for half in [false, true] {
            let want = if half { round_bf16(&want) } else { want.clone() };
            let there = if half { bf16_on_cuda } else { on_cuda };
            let (mut a, mut b) = (there(&[n], &x), there(&[n], &x));
            dropout::forward(&spec, stream, offset, &mut a).unwrap();
            assert_eq!(a.to_f32_vec().unwrap(), want, "{n} from {offset}, bf16 {half}");
            dropout::forward_from(&spec, &words_there, offset, &mut b).unwrap();
            assert_eq!(
                b.to_f32_vec().unwrap(),
                want,
                "{n} from {offset}, bf16 {half}, on the device"
            );
        }
    }
    let mut x = on_cuda(&[3], &[1.0, f32::NAN, 2.0]);
    dropout::forward(&Spec { len: 3, p: 0.0 }, stream, 0, &mut x).unwrap();
    assert_eq!(x.to_f32_vec().unwrap()[2], 2.0, "p = 0 leaves it");
    let mut ids = Tensor::zeros_on(&[3], DType::U32, CUDA).unwrap();
    assert!(dropout::forward(&Spec { len: 3, p: 0.0 }, stream, 0, &mut ids).is_err());
    assert!(dropout::forward_from(&Spec { len: 3, p: 0.5 }, &words, 0, &mut x).is_err(), "mixed");
}
