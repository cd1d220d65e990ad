#pragma once

#include <memory>
#include <type_traits>
#include <vector>

#include "calque/core/dtype.h"
#include "calque/core/input_grid.h"
#include "calque/core/matrix.h"
#include "calque/forward/cost.h"
#include "calque/model/family.h"
#include "calque/model/weight_source.h"

// Matrix products of the forward pass, by oneDNN, on the calling thread (core/openmp.h). Errors:
// kResource, "E304", where memory was lacking, else kInternal.
namespace calque::forward {

// c_MN = a_MK * b_NK^T, or with `add` c_MN += ... ; fp32, on the calling thread.
//
// oneDNN's sgemm, not the system's BLAS: OpenBLAS 0.3.21 takes processors newer than itself for a
// Prescott (34 GFLOP/s a core where oneDNN reaches 160), and has a process-wide thread count, which
// would make results depend on what else runs.
void multiply_transposed(MatrixView<const float> a_MK, MatrixView<const float> b_NK,
                         MatrixView<float> c_MN, bool add = false);

// The same of bf16 matrices: exact products, fp32 sums, at the rate of fp32 where the processor has
// no AVX-512.
void multiply_transposed(MatrixView<const BFloat16> a_MK, MatrixView<const BFloat16> b_NK,
                         MatrixView<float> c_MN);

// c_MN = a_MK * b_KN; T is float or BFloat16. By oneDNN's primitive: where N is a head's few
// columns it is up to a third faster than sgemm.
template <typename T>
void multiply(MatrixView<const T> a_MK, MatrixView<const T> b_KN, MatrixView<float> c_MN);

// c_MN = factor * c_MN + a_KM^T * b_KN, fp32.
void add_product(MatrixView<const float> a_KM, MatrixView<const float> b_KN, float factor,
                 MatrixView<float> c_MN);

// A linear's weights in bf16, laid out once in the order in which oneDNN's kernels read them: for
// few rows, putting them into it costs as much as the product. Without AVX-512 they keep theirs.
class PackedWeights {
 public:
  // Rounds to bf16.
  explicit PackedWeights(MatrixView<const float> weight_NK);

  Index out_features() const { return out_features_; }
  // outputs_TN = inputs_TK * weight_NK^T + bias_1N (empty: none), summed in fp32. Thread-safe.
  void apply(MatrixView<const BFloat16> inputs_TK, MatrixView<const float> bias_1N,
             MatrixView<BFloat16> outputs_TN) const;

 private:
  Index out_features_ = 0;
  Index in_features_ = 0;
  std::shared_ptr<BFloat16> packed_;
};

// A linear's weights in the precision the forward pass computes in.
template <typename T>
class PreparedLinear {
 public:
  // fp32 weights are borrowed from `weight_NK`; bf16 ones are rounded copies. `bias_1N` (may be
  // empty) is borrowed, and so is `inputs`, the rounding of what comes in; null: none.
  PreparedLinear(MatrixView<const float> weight_NK, MatrixView<const float> bias_1N,
                 const InputGrid* inputs = nullptr)
      : weight_NK_(weight_NK),
        bias_1N_(bias_1N),
        out_features_(weight_NK.rows()),
        inputs_(inputs) {}

  Index out_features() const { return out_features_; }
  // outputs_TN = inputs_TK * weight_NK^T + bias.
  void apply(MatrixView<const T> inputs_TK, MatrixView<T> outputs_TN) const;

 private:
  void multiply(MatrixView<const T> inputs_TK, MatrixView<T> outputs_TN) const;

  std::conditional_t<std::is_same_v<T, float>, MatrixView<const float>, PackedWeights> weight_NK_;
  MatrixView<const float> bias_1N_;
  Index out_features_ = 0;
  const InputGrid* inputs_ = nullptr;
};

// The readers of a site, each prepared by one thread. `inputs` (may be null) is borrowed.
template <typename T>
std::vector<PreparedLinear<T>> prepare(const model::SiteSpec& site,
                                       const model::BlockWeights& weights, int threads,
                                       const InputGrids* inputs = nullptr);

}  // namespace calque::forward
