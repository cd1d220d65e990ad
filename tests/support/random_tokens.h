#pragma once

#include <cstdint>
#include <filesystem>
#include <random>
#include <span>
#include <vector>

#include "calque/core/matrix.h"
#include "calque/io/safetensors.h"

namespace calque::pipeline {

inline std::vector<std::int32_t> random_ids(Index count, int vocabulary, std::uint32_t seed) {
  std::mt19937 generator(seed);
  std::vector<std::int32_t> ids(static_cast<std::size_t>(count));
  for (std::int32_t& id : ids)
    id = static_cast<std::int32_t>(generator() % static_cast<std::uint32_t>(vocabulary));
  return ids;
}

// A file of random ids for the tiny models of every family, which have no tokenizer.
inline std::filesystem::path random_tokens(const std::filesystem::path& folder, Index rows,
                                           Index seqlen, int vocabulary, std::uint32_t seed) {
  const std::vector<std::int32_t> ids = random_ids(rows * seqlen, vocabulary, seed);
  std::filesystem::create_directories(folder);
  io::SafetensorsWriter writer(folder, {{"input_ids", DType::kI32, {rows, seqlen}}});
  writer.write("input_ids", std::as_bytes(std::span(ids)));
  writer.finish();
  return folder / "model.safetensors";
}

}  // namespace calque::pipeline
