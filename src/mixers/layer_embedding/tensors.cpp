#include "mixers/layer_embedding/tensors.h"

#include "mixers/mlp/tensors.h"

namespace calque::forward {
namespace {

class TensorLayerEmbedding : public TwoSiteTensorMixer {
 public:
  explicit TensorLayerEmbedding(const TensorHalf& half)
      : TwoSiteTensorMixer(half),
        spec_(half.mixer<model::LayerEmbedding>()),
        own_TN_(half.states.all_kept()
                    .at(std::string(model::LayerEmbeddings::kName))
                    .narrow(1, spec_.first, spec_.width)) {}

 private:
  at::Tensor inner(const at::Tensor& rows_TH, const TensorBatch& batch) const override {
    const at::Tensor own_TN = own_TN_.narrow(0, batch.first_row, batch.rows).to(half_.compute);
    return gated({.act = spec_.activation}, linears(model::LayerEmbedding::kIn).front()(rows_TH),
                 own_TN);
  }

  const model::LayerEmbedding& spec_;
  at::Tensor own_TN_;  // this layer's, of all tokens
};

}  // namespace

std::unique_ptr<TensorMixer> make_tensor_layer_embedding(const TensorHalf& half) {
  return std::make_unique<TensorLayerEmbedding>(half);
}

}  // namespace calque::forward
