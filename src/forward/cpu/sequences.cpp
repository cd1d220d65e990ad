#include "forward/cpu/sequences.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <cstdlib>
#include <string>
#include <string_view>

#include "calque/core/error.h"

namespace calque::forward {
namespace {

std::vector<Index> running_sum(std::span<const Index> lengths) {
  std::vector<Index> result{0};
  for (const Index length : lengths) result.push_back(result.back() + length);
  return result;
}

Index longest(std::span<const Index> lengths) {
  return lengths.empty() ? 0 : *std::max_element(lengths.begin(), lengths.end());
}

// "DefaultCPUAllocator: can't allocate memory: you tried to allocate 4096 bytes."
std::uint64_t bytes_in(const std::string& reason) {
  constexpr std::string_view kBefore = "tried to allocate ";
  const std::size_t at = reason.find(kBefore);
  return at == std::string::npos ? 0 : std::strtoull(&reason[at + kBefore.size()], nullptr, 10);
}

}  // namespace

void make_thread_pool() {
  static const int made = [] {
    check_that_threads_start();
    return at::get_num_threads();
  }();
  static_cast<void>(made);
}

TorchHiddenStates::TorchHiddenStates(const model::ModelConfig& config, Index hidden_size,
                                     std::span<const Index> lengths, io::ScratchSpace& space)
    : rows_TH_(space, running_sum(lengths), hidden_size),
      rotary_(config.rope, config.head_dim, longest(lengths)),
      local_rotary_(config.local_rope, config.head_dim, longest(lengths)) {}

void parallel_over(Index count, int threads, const std::function<void(Index)>& body) {
  parallel_for(count, threads, [&](Index i) {
    const OneThread guard;
    body(i);
  });
}

void translate_errors(const std::function<void()>& body) {
  try {
    body();
  } catch (const c10::Error& error) {
    const std::string reason = error.what_without_backtrace();
    if (reason.find("allocate memory") != std::string::npos) throw_out_of_memory(bytes_in(reason));
    throw Error(ErrorKind::kInternal, "", "LibTorch: " + reason);
  }
}

}  // namespace calque::forward
