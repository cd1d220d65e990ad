#include "eval/lane.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "calque/forward/token_rows.h"

namespace calque::eval {
namespace {

// Bit by bit; a few rows at a time.
bool same_values(const Lane& a, const model::TensorSpec& tensor_of_a, const Lane& b,
                 const model::TensorSpec& tensor_of_b) {
  constexpr Index kRows = 4096;
  if (tensor_of_a.shape != tensor_of_b.shape) return false;
  const Index rows = tensor_of_a.shape.size() < 2 ? 1 : tensor_of_a.shape[0];
  for (Index first = 0; first < rows; first += kRows) {
    std::vector<Index> some(static_cast<std::size_t>(std::min(kRows, rows - first)));
    std::iota(some.begin(), some.end(), first);
    const Matrix<float> of_a = a.model->weights->load_rows(tensor_of_a.name, some);
    const Matrix<float> of_b = b.model->weights->load_rows(tensor_of_b.name, some);
    const auto bytes = static_cast<std::size_t>(of_a.size()) * sizeof(float);
    if (of_a.size() != of_b.size() || std::memcmp(of_a.data(), of_b.data(), bytes) != 0)
      return false;
  }
  return true;
}

// One head serves both, because they are one checkpoint in one precision.
bool one_head(const Lane& a, const Lane& b) {
  return a.model->weights == b.model->weights && a.options.dtype == b.options.dtype;
}

bool same_head(const Lane& a, const Lane& b) {
  if (one_head(a, b)) return true;
  const model::ModelConfig& of_a = *a.model->config;
  const model::ModelConfig& of_b = *b.model->config;
  return a.options.dtype == b.options.dtype && of_a.norm_plus_one == of_b.norm_plus_one &&
         of_a.rms_norm_eps == of_b.rms_norm_eps && of_a.logit_softcap == of_b.logit_softcap &&
         same_values(a, a.family.final_norm, b, b.family.final_norm) &&
         same_values(a, a.family.head(), b, b.family.head());
}

}  // namespace

void Lane::start(const EvalModel& source, const forward::RunnerOptions& common) {
  model = &source;
  options = common;
  if (source.dtype) options.dtype = *source.dtype;
  family = model::family_of(*source.config);
  if (source.kv_cache) options.kv_cache = make_kv_cache_rounding(*source.kv_cache, family);
  runner = forward::make_block_runner(*source.config, options);
}

void Lane::embed(const text::TokenBlocks& rows) {
  running = forward::embed_tokens(*runner, *model->weights, family.embedding, rows.ids_BS,
                                  rows.lengths_B);
}

void Lane::make_head() {
  head = runner->make_head(model->weights->load(family.final_norm.name),
                           model->weights->load(family.head().name));
}

void Lane::free() {
  head.reset();
  hidden.reset();
}

std::vector<std::vector<Lane*>> scoring_rounds(std::vector<Lane>& lanes) {
  // The first has the reference's head.
  std::vector<std::vector<Lane*>> rounds(1);
  for (std::size_t i = 1; i < lanes.size(); ++i) {
    Lane& lane = lanes[i];
    const auto round = std::find_if(rounds.begin(), rounds.end(), [&](const auto& others) {
      return std::any_of(others.begin(), others.end(),
                         [&](const Lane* other) { return one_head(*other, lane); });
    });
    if (round != rounds.end()) {
      round->push_back(&lane);
    } else if (same_head(lanes.front(), lane)) {
      rounds.front().push_back(&lane);
    } else {
      rounds.push_back({&lane});
    }
    lane.has_reference_head = !rounds.front().empty() && rounds.front().back() == &lane;
  }
  if (rounds.size() == 1) return rounds;
  rounds[1].insert(rounds[1].end(), rounds[0].begin(), rounds[0].end());
  rounds.erase(rounds.begin());
  return rounds;
}

void make_heads(Lane& reference, const std::vector<Lane*>& candidates) {
  std::shared_ptr<forward::Head> other;
  for (Lane* lane : candidates) {
    if (lane->has_reference_head) {
      lane->head = reference.head;
      continue;
    }
    if (other == nullptr) {
      lane->make_head();
      other = lane->head;
    }
    lane->head = other;
  }
}

}  // namespace calque::eval
