//! Vectors that ranks divide.

use libtorch_ext::distributed::DividedVector;
use tch::{Device, Kind, Tensor, no_grad};

use crate::ranks::{long, numbers, on_ranks};

#[test]
fn a_divided_vector_is_whole_while_it_is_gathered() {
    on_ranks("gather::a_divided_vector_is_whole_while_it_is_gathered", 2, |ranks| {
        let group = ranks.group(long());
        let own = Tensor::from_slice(&[1.0_f32, 2.0, 3.0]) + ranks.rank as f64 * 10.0;
        for kind in [Kind::Float, Kind::BFloat16] {
            let whole = Tensor::ones([6], (kind, Device::Cpu));
            let view = whole.view([2, 3]);
            // SAFETY: view and vector are read while it is gathered.
            let divided = unsafe { DividedVector::new(&group, &whole, &own) }.expect("divided");
            for step in 0..2 {
                divided.gather().expect("gathered");
                let expected = [1.0, 2.0, 3.0, 11.0, 12.0, 13.0].map(|number: f64| number + f64::from(step));
                assert_eq!(numbers(&view.to_kind(Kind::Double).reshape([-1])), expected);
                // SAFETY: as above.
                unsafe { divided.release() }.expect("released");
                let _more = no_grad(|| own.shallow_clone().f_add_scalar_(1.0).expect("added"));
            }
            let _fewer = own.shallow_clone().f_sub_scalar_(2.0).expect("subtracted");
        }
        // SAFETY: it is not read.
        let wrong = unsafe { DividedVector::new(&group, &Tensor::ones([5], (Kind::Float, Device::Cpu)), &own) };
        let error = wrong.expect_err("an error").to_string();
        assert!(error.contains("the parts of all ranks are not the whole") && error.contains(" of 2"), "{error}");
    });
}
