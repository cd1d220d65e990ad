// Seconds of each stage for one block of Llama-3-8B's shape on every GPU (README.md). Exit code 77
// without one.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "calque/calib/collect.h"
#include "calque/core/exec.h"
#include "calque/forward/block_runner.h"
#include "calque/kernels/pack_bits.h"
#include "calque/quant/methods.h"

namespace calque {
namespace {

constexpr int kNoGpu = 77;
constexpr Index kSequences = 16, kLength = 2048, kVocabulary = 1024;
constexpr const char* kConfig = R"({"architectures": ["LlamaForCausalLM"], "model_type": "llama",
  "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 1, "num_attention_heads": 32,
  "num_key_value_heads": 8, "vocab_size": 1024, "max_position_embeddings": 8192,
  "rms_norm_eps": 1e-5, "rope_theta": 500000.0, "tie_word_embeddings": true})";

using Clock = std::chrono::steady_clock;

double since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// Time of a stage, and the operations that its definition counts.
struct Stage {
  const char* name;
  double seconds = 0;
  double flop = 0;
};

Matrix<float> random_matrix(Index rows, Index cols, unsigned seed) {
  Matrix<float> matrix(rows, cols);
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, 1.0f / std::sqrt(static_cast<float>(cols)));
  std::generate_n(matrix.data(), matrix.size(), [&] { return normal(random); });
  return matrix;
}

class RandomWeights : public model::WeightSource {
 public:
  explicit RandomWeights(const model::FamilySpec& family) : family_(family) {}
  bool has(std::string_view) const override { return true; }
  Matrix<float> load(std::string_view name) const override {
    for (const model::TensorSpec& tensor : family_.tensors()) {
      if (tensor.name != name) continue;
      if (tensor.shape.size() == 2) return random_matrix(tensor.shape[0], tensor.shape[1], 1);
      Matrix<float> ones(1, tensor.shape[0]);
      std::fill_n(ones.data(), ones.size(), 1.0f);
      return ones;
    }
    return {};
  }

 private:
  const model::FamilySpec& family_;
};

// Every site: statistics, GPTQ on 4 bits in groups of 128, packing.
class Quantizer : public forward::BlockObserver {
 public:
  explicit Quantizer(const Exec& exec) : exec_(exec) {}

  void site_input(const model::SiteSpec& site, const forward::ActivationView& inputs_TK) override {
    const auto start = Clock::now();
    if (!collector_) collector_.emplace(site.features(), exec_);
    collector_->add(inputs_TK);
    const auto rows = static_cast<double>(inputs_TK.rows());
    const auto columns = static_cast<double>(inputs_TK.cols());
    statistics.flop += rows * columns * columns;  // the upper triangle's multiplications and sums
    statistics.seconds += since(start);
  }

  void site_ready(const model::SiteSpec& site, model::BlockWeights& weights) override {
    auto start = Clock::now();
    quant::InputStats stats = collector_->finish();
    collector_.reset();
    statistics.seconds += since(start);
    start = Clock::now();
    const quant::SiteRounder round =
        quant::make_gptq({.refine_passes = 0})(std::move(stats), exec_);
    const auto columns = static_cast<double>(site.features());
    quantize.flop += 4.0 / 3.0 * columns * columns * columns;  // inverse and its factor
    for (const model::LinearSpec& linear : site.readers) {
      const quant::Rounded rounded = round(weights.take(linear.weight.name), {});
      quantize.flop += static_cast<double>(linear.out_features()) * columns * columns;  // the sweep
      quantize.seconds += since(start);
      pack_codes(rounded.matrix);
      start = Clock::now();
      weights.put(linear.weight.name, quant::dequantize(rounded.matrix));
    }
    quantize.seconds += since(start);
  }

  double seconds() const { return statistics.seconds + quantize.seconds + pack.seconds; }

  Stage statistics{"statistics"}, quantize{"quantize"}, pack{"pack"};

 private:
  void pack_codes(const quant::QuantizedMatrix& q) {
    const auto start = Clock::now();
    Matrix<std::int32_t> words(q.out_features(), packed_words(q.in_features(), q.grid.bits));
    pack_rows(q.groups().codes_NK, q.grid.bits, words, exec_);
    pack.seconds += since(start);
  }

  Exec exec_;
  std::optional<calib::StatsCollector> collector_;
};

// Two for each weight and token, and the attention's two products below the diagonal.
double forward_flop(const model::FamilySpec& family) {
  double weights = 0;
  for (const model::LinearSpec& linear : family.linears())
    weights += static_cast<double>(linear.out_features() * linear.in_features());
  const double tokens = kSequences * kLength;
  const auto width = static_cast<double>(family.config.num_heads * family.config.head_dim);
  return 2 * tokens * weights + 2 * tokens * kLength * width;
}

std::vector<Stage> measure(const model::FamilySpec& family, const std::string& device) {
  Matrix<std::int32_t> ids_BS(kSequences, kLength);
  std::mt19937 random(2);
  std::generate_n(ids_BS.data(), ids_BS.size(),
                  [&] { return static_cast<std::int32_t>(random() % kVocabulary); });
  const std::vector<Index> lengths_B(kSequences, kLength);
  const RandomWeights source(family);
  const auto runner = forward::make_block_runner(
      family.config, {.dtype = forward::ComputeDType::kBFloat16, .device = device});
  const model::BlockSpec& block = family.blocks.front();
  std::vector<Stage> stages;
  for (int run = 0; run < 2; ++run) {  // the first one loads kernels and fills caches
    const auto hidden = runner->embed(ids_BS, lengths_B, source.load(family.embedding.name));
    model::BlockWeights weights = model::load_block(source, block);
    Quantizer observer(open_exec(device));
    const auto start = Clock::now();
    runner->run_block(block, weights, *hidden, &observer);
    const double forward = since(start) - observer.seconds();
    stages = {{"forward", forward, forward_flop(family)},
              observer.statistics,
              observer.quantize,
              observer.pack};
  }
  return stages;
}

void print(const std::string& device, const std::vector<Stage>& stages, double peak_tflops) {
  for (const Stage& stage : stages) {
    const double tflops = stage.flop / stage.seconds / 1e12;
    fmt::print("{},{},{:.4f},{}", device, stage.name, stage.seconds,
               stage.flop > 0 ? fmt::format("{:.2f}", tflops) : "");
    fmt::print(",{}\n", stage.flop > 0 && peak_tflops > 0
                            ? fmt::format("{:.3f}", tflops / peak_tflops)
                            : "");
  }
}

int run(double peak_tflops) {
  if (accelerators().empty() || forward::runner_gpus() == 0) {
    fmt::print("skipped: {}\n",
               accelerators().empty() ? why_no_accelerator() : "LibTorch sees no GPU");
    return kNoGpu;
  }
  const model::FamilySpec family = model::family_of(model::parse_config(kConfig, "Llama-3-8B"));
  fmt::print("device,stage,seconds,tflops,share_of_peak\n");
  for (const DeviceFacts& gpu : accelerators())
    print(gpu.name + " " + gpu.model, measure(family, gpu.name), peak_tflops);
  return 0;
}

}  // namespace
}  // namespace calque

int main(int argc, char** argv) { return calque::run(argc > 1 ? std::stod(argv[1]) : 0); }
