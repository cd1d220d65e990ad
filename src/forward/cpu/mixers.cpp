#include <algorithm>
#include <cassert>
#include <iterator>
#include <string_view>

#include "forward/cpu/mixer.h"
#include "mixers/attention/cpu.h"
#include "mixers/delta_net/cpu.h"
#include "mixers/experts/cpu.h"
#include "mixers/layer_embedding/cpu.h"
#include "mixers/mlp/cpu.h"

// The table of mixers: one row each.
namespace calque::forward {

template <typename T>
std::unique_ptr<CpuMixer<T>> make_cpu_mixer(const CpuHalf<T>& half) {
  struct Row {
    std::string_view kind;
    std::unique_ptr<CpuMixer<T>> (*make)(const CpuHalf<T>&);
  };
  static constexpr Row kRows[] = {
      {model::Attention::kKind, make_attention<T>},
      {model::DeltaNet::kKind, make_delta_net<T>},
      {model::Experts::kKind, make_experts<T>},
      {model::LayerEmbedding::kKind, make_layer_embedding<T>},
      {model::Mlp::kKind, make_mlp<T>},
  };
  const std::string_view kind = half.half.mixer->kind();
  const auto* const row = std::find_if(std::begin(kRows), std::end(kRows),
                                       [&](const Row& r) { return r.kind == kind; });
  assert(row != std::end(kRows));
  return row->make(half);
}

template std::unique_ptr<CpuMixer<float>> make_cpu_mixer(const CpuHalf<float>&);
template std::unique_ptr<CpuMixer<BFloat16>> make_cpu_mixer(const CpuHalf<BFloat16>&);

}  // namespace calque::forward
