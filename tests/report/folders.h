#pragma once

#include <filesystem>
#include <fstream>
#include <string>

#include "support/temp_folder.h"

namespace calque::report {

inline void write(const std::filesystem::path& path, const std::string& text) {
  std::filesystem::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary) << text;
}

inline std::string contents_of(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// metrics.json of two models on two texts, as report_json writes it; names that HTML must escape.
inline constexpr const char* kMetrics = R"({
  "job": "demo <b>&\"",
  "source": {"tensor_bytes": 13631488, "bits_per_weight": 16.0, "name": "tiny"},
  "artifacts": [
    {"name": "tiny-GPTQ", "format": "gptq", "tensor_bytes": 6700000, "file_bytes": 6726784,
     "predicted_file_bytes": 6726784, "bits_per_weight": 7.869},
    {"name": "tiny-Q4_K_M.gguf", "format": "gguf", "type": "Q4_K_M", "tensor_bytes": 4200000,
     "file_bytes": 4331008, "bits_per_weight": 4.969}],
  "evaluations": [
    {"text": "prose", "seqlen": 512, "windows": 20,
     "manifest": {"tokenizer": "BPE", "tokens_sha256": "aa11",
                  "sources": [{"file": "prose.txt", "sha256": "bb22", "tokens": 10240, "rows_used": 20}]},
     "models": [
       {"label": "original", "kind": "reference", "kv_cache": "",
        "perplexity_huggingface": {"value": 42.0, "uncertainty": 0.8, "predictions": 10220}},
       {"label": "original", "kind": "noise_floor", "kv_cache": "",
        "perplexity_huggingface": {"value": 42.0, "uncertainty": 0.8, "predictions": 10220},
        "divergence": {"kl_mean": 1e-5, "kl_mean_uncertainty": 1e-6}},
       {"label": "tiny-GPTQ", "kind": "artifact", "kv_cache": "",
        "perplexity_huggingface": {"value": 42.5, "uncertainty": 0.8, "predictions": 10220},
        "divergence": {"kl_mean": 0.0037, "kl_mean_uncertainty": 0.0001, "kl_median": 0.002,
          "kl_p90": 0.008, "kl_p99": 0.03, "kl_p999": 0.1, "kl_max": 0.5, "top1_agreement": 0.95,
          "top1_agreement_uncertainty": 0.002, "rms_delta_p": 0.01,
          "kl_intervals": {"median": [0.0019, 0.0021]},
          "kl_histogram": {"log10_first": -4, "log10_step": 1, "counts": [10, 200, 30]}}},
       {"label": "tiny-Q4_K_M.gguf", "kind": "artifact", "kv_cache": "",
        "perplexity_huggingface": {"value": 42.2, "uncertainty": 0.8, "predictions": 10220},
        "divergence": {"kl_mean": 0.0021, "kl_mean_uncertainty": 0.0001, "top1_agreement": 0.96}},
       {"label": "tiny-GPTQ", "kind": "artifact", "kv_cache": "q8_0", "kv_cache_bytes": 139264,
        "perplexity_huggingface": {"value": 42.6, "uncertainty": 0.8, "predictions": 10220},
        "divergence": {"kl_mean": 0.0039, "kl_mean_uncertainty": 0.0001, "top1_agreement": 0.94}}]},
    {"text": "code", "seqlen": 512, "windows": 20, "manifest": {"tokens_sha256": "cc33"},
     "models": [
       {"label": "original", "kind": "reference", "kv_cache": "",
        "perplexity_huggingface": {"value": 12.0, "uncertainty": 0.2, "predictions": 10220}},
       {"label": "tiny-GPTQ", "kind": "artifact", "kv_cache": "",
        "perplexity_huggingface": {"value": 12.5, "uncertainty": 0.2, "predictions": 10220},
        "divergence": {"kl_mean": 0.01, "kl_mean_uncertainty": 0.0002, "top1_agreement": 0.9}}]}],
  "seconds": 30.5, "stage_seconds": {"forward": 10.0, "quantize": 2.0},
  "predicted": {"seconds": 28.0, "seconds_from": "probe", "stage_seconds": {"forward": 9.0}},
  "peak_bytes": 560000000, "predicted_peak_bytes": 553648128,
  "stage_peaks": [{"stage": "forward", "predicted_bytes": 540000000, "measured_bytes": 546000000}],
  "stage_devices": {"forward": "cpu"}, "calque_version": "0.1.0", "threads": 2, "resumed": 1,
  "warnings": ["3 dead <columns>"]
})";

inline constexpr const char* kModules =
    "block,module,method,bits,group_size,params,bpw,loss,rel_error,tokens,nonfinite_tokens,"
    "damp_percent,dead_columns,seconds,fallback_reason,upstream_shift\n"
    "0,model.layers.0.self_attn.q_proj,gptq,4,128,65536,4.125,0.01,0.0014,1000,0,0.01,0,0.06,,0\n"
    "1,model.layers.1.self_attn.q_proj,rtn,4,128,65536,4.125,0.01,0.002,1000,0,0.01,0,0.06,\"a, "
    "b\",0\n"
    "0,model.layers.0.self_attn.q_proj,gptq,6,16,65536,6.5,0.01,0.0002,1000,0,0.01,0,0.06,,0\n";

inline void write_run(const std::filesystem::path& folder, const std::string& metrics = kMetrics) {
  write(folder / "metrics.json", metrics);
  write(folder / "modules.csv", kModules);
  write(folder / "job.resolved.yaml", "version: 1\nname: \"demo <b>&\"\n");
}

// Four points over two keys: three done, one failed with a comma and quotes in its error.
inline constexpr const char* kResults =
    "point,hash,status,error,quantization.bits,quantization.group_size,method,format,type,bits,"
    "group_size,tensor_bytes,bits_per_weight,source_bytes,text,seqlen,ppl,ppl_uncertainty,"
    "ppl_original,kl_mean,kl_mean_uncertainty,kl_mean_sd,kl_median,kl_p99,top1_agreement,"
    "replicates,seconds,statistics_seconds,forward_seconds,evaluate_seconds,peak_bytes,shared,"
    "kl_mean[code],kl_mean_uncertainty[code],ppl[code]\n"
    "1,h1,done,,3,128,gptq,gptq,,3,128,3000000,3.2,13631488,prose,512,43,0.8,42,0.015,0.0002,"
    "0.0004,0.007,0.1,0.91,3,20,3,10,8,560000000,,0.04,0.0005,13\n"
    "2,h2,done,,3,-1,gptq,gptq,,3,-1,2900000,3.1,13631488,prose,512,43.5,0.8,42,0.018,0.0002,"
    "0.0004,0.008,0.12,0.9,3,9,0,0,8,560000000,tokens reference,0.05,0.0005,13\n"
    "3,h3,done,,4,128,gptq,gptq,,4,128,3800000,4.2,13631488,prose,512,42.4,0.8,42,0.0037,0.0001,"
    "0.0001,0.002,0.03,0.95,3,9,0,0,8,560000000,tokens reference,0.01,0.0002,12.5\n"
    "4,h4,failed,\"E401: not positive definite, even with \"\"damping\"\" "
    "<0.25>\",4,-1,gptq,gptq,,4,-1"
    ",,,,,,,,,,,,,,,,,,,,,,,,\n";

}  // namespace calque::report
