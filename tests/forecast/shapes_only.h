#pragma once

#include <vector>

#include "calque/formats/plan.h"
#include "calque/job/job.h"
#include "calque/model/family.h"

namespace calque::pipeline {

// A Llama of `layers` layers without any weights: hidden 64, 4 heads of 16, 2 K/V heads, MLP 192,
// vocabulary 256.
inline model::ModelConfig tiny_config(Index layers) {
  model::ModelConfig config;
  config.architecture = "LlamaForCausalLM";
  config.model_type = "llama";
  config.hidden_size = 64;
  config.intermediate_size = 192;
  config.num_layers = layers;
  config.num_heads = 4;
  config.num_kv_heads = 2;
  config.head_dim = 16;
  config.vocab_size = 256;
  config.window_of_layer.assign(static_cast<std::size_t>(layers), 0);
  config.dtype = "bfloat16";
  return config;
}

inline model::FamilySpec tiny_family(Index layers) { return model::family_of(tiny_config(layers)); }

// 4 rows of 32 tokens, fp32, one thread.
inline job::Job tiny_job() {
  job::Job job;
  job.calibration.tokens = "tokens.safetensors";
  job.calibration.packing.n_samples = 4;
  job.calibration.packing.seqlen = 32;
  job.runtime.forward_dtype = "float32";
  job.runtime.threads = 1;
  job.run_dir = "run";
  return job;
}

// Linears on 4 bits, groups of 32.
inline std::vector<formats::ExportPlan> gptq_plan(const model::FamilySpec& family) {
  formats::ExportPlan plan;
  plan.request.format = "gptq";
  for (const model::TensorSpec& tensor : family.tensors()) plan.tensors.push_back({tensor});
  for (const model::LinearSpec& linear : family.linears())
    for (formats::TensorPlan& planned : plan.tensors)
      if (planned.tensor.name == linear.weight.name) {
        planned.in_block_linear = true;
        planned.grid = quant::Grid{.bits = 4, .group_size = 32};
        planned.bytes =
            static_cast<std::uint64_t>(linear.out_features() * linear.in_features()) / 2;
      }
  return {plan};
}

}  // namespace calque::pipeline
