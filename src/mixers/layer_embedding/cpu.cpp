#include "mixers/layer_embedding/cpu.h"

#include <string>

#include "forward/cpu/loops.h"

namespace calque::forward {
namespace {

template <typename T>
class CpuLayerEmbedding : public TwoSiteMixer<T> {
 public:
  explicit CpuLayerEmbedding(const CpuHalf<T>& half)
      : TwoSiteMixer<T>(half),
        spec_(half.template mixer<model::LayerEmbedding>()),
        embeddings_(half.states.all_kept().at(std::string(model::LayerEmbeddings::kName))) {}

  void add(Index sequence, MatrixView<const float> hidden_TH,
           MatrixView<float> sum_TH) const override {
    const Lease workspace(this->half_.workspaces);
    const MatrixView<T> inner_TN =
        workspace->matrix(Workspace<T>::kInner, hidden_TH.rows(), spec_.width);
    inner(sequence, hidden_TH, inner_TN);
    this->add_inner(inner_TN, sum_TH);
  }

 private:
  using typename TwoSiteMixer<T>::Lease;

  void inner(Index sequence, MatrixView<const float> hidden_TH,
             MatrixView<T> out_TN) const override {
    const Lease workspace(this->half_.workspaces);
    const PreparedLinear<T>& gate = this->linears(model::LayerEmbedding::kIn).front();
    const MatrixView<const float> own_TN = embeddings_.of(sequence).cols(spec_.first, spec_.width);
    each_chunk(hidden_TH.rows(), [&](Index first, Index count) {
      const MatrixView<T> rows_TH =
          workspace->matrix(Workspace<T>::kNormed, count, hidden_TH.cols());
      this->norm(hidden_TH.rows(first, count), rows_TH);
      gate.apply(rows_TH, out_TN.rows(first, count));
      const MatrixView<T> own = workspace->matrix(Workspace<T>::kLeft, count, spec_.width);
      for (Index t = 0; t < count; ++t)
        for (Index i = 0; i < spec_.width; ++i) store(own_TN(first + t, i), own(t, i));
      loops_of<T>().gate(spec_.activation, own, out_TN.rows(first, count));
    });
    embeddings_.release(sequence);
  }

  const model::LayerEmbedding& spec_;
  const SequenceRows<float>& embeddings_;  // all layers' side by side
};

}  // namespace

template <typename T>
std::unique_ptr<CpuMixer<T>> make_layer_embedding(const CpuHalf<T>& half) {
  return std::make_unique<CpuLayerEmbedding<T>>(half);
}
template std::unique_ptr<CpuMixer<float>> make_layer_embedding(const CpuHalf<float>&);
template std::unique_ptr<CpuMixer<BFloat16>> make_layer_embedding(const CpuHalf<BFloat16>&);

}  // namespace calque::forward
