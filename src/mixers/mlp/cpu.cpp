#include "mixers/mlp/cpu.h"

#include <algorithm>

#include "forward/cpu/loops.h"

namespace calque::forward {
namespace {

template <typename T>
void join(const model::Activation& activation, MatrixView<const T> up_TN, MatrixView<T> gate_TN) {
  if (const model::ClampedGate& clamped = activation.clamped)
    loops_of<T>().gate_clamped(static_cast<float>(clamped.limit), static_cast<float>(clamped.slope),
                               up_TN, gate_TN);
  else
    loops_of<T>().gate(activation.act, up_TN, gate_TN);
}

template <typename T>
class CpuMlp : public TwoSiteMixer<T> {
 public:
  explicit CpuMlp(const CpuHalf<T>& half)
      : TwoSiteMixer<T>(half), spec_(half.template mixer<model::Mlp>()) {}

  void add(Index, MatrixView<const float> hidden_TH, MatrixView<float> sum_TH) const override {
    const Lease workspace(this->half_.workspaces);
    each_chunk(hidden_TH.rows(), [&](Index first, Index count) {
      const MatrixView<T> inner_TN =
          workspace->matrix(Workspace<T>::kInner, count, this->inner_channels());
      inner(0, hidden_TH.rows(first, count), inner_TN);
      this->add_inner(inner_TN, sum_TH.rows(first, count));
    });
  }

 private:
  using typename TwoSiteMixer<T>::Lease;

  void inner(Index, MatrixView<const float> hidden_TH, MatrixView<T> out_TN) const override {
    const Lease workspace(this->half_.workspaces);
    each_chunk(hidden_TH.rows(), [&](Index first, Index count) {
      const MatrixView<T> normed_TH =
          workspace->matrix(Workspace<T>::kNormed, count, hidden_TH.cols());
      this->norm(hidden_TH.rows(first, count), normed_TH);
      gated_rows<T>(this->linears(model::Mlp::kIn), spec_.activation, normed_TH, *workspace,
                    out_TN.rows(first, count));
    });
  }

  const model::Mlp& spec_;
};

}  // namespace

template <typename T>
void gated_rows(std::span<const PreparedLinear<T>> linears, const model::Activation& activation,
                MatrixView<const T> normed_TH, Workspace<T>& workspace, MatrixView<T> out_TN) {
  const MatrixView<T> last =
      workspace.matrix(Workspace<T>::kLeft, normed_TH.rows(), linears.back().out_features());
  linears.back().apply(normed_TH, last);
  if (linears.size() == 1) {  // gate above up
    const Index width = out_TN.cols();
    for (Index t = 0; t < last.rows(); ++t) std::copy_n(last.row(t), width, out_TN.row(t));
    join<T>(activation, last.cols(width, width), out_TN);
    return;
  }
  linears.front().apply(normed_TH, out_TN);
  join<T>(activation, last, out_TN);
}

template <typename T>
std::unique_ptr<CpuMixer<T>> make_mlp(const CpuHalf<T>& half) {
  return std::make_unique<CpuMlp<T>>(half);
}

#define CALQUE_INSTANTIATE(T)                                                            \
  template void gated_rows(std::span<const PreparedLinear<T>>, const model::Activation&, \
                           MatrixView<const T>, Workspace<T>&, MatrixView<T>);           \
  template std::unique_ptr<CpuMixer<T>> make_mlp(const CpuHalf<T>&);
CALQUE_INSTANTIATE(float)
CALQUE_INSTANTIATE(BFloat16)
#undef CALQUE_INSTANTIATE

}  // namespace calque::forward
