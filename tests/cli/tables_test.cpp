#include "cli/tables.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "support/paths.h"

// Exact text for a made-up report.

namespace calque::cli {
namespace {

formats::ExportPlan plan(const std::string& format, const std::string& path,
                         const std::string& stored_as) {
  formats::ExportPlan result;
  result.request.format = format;
  result.request.path = path;
  result.request.type = stored_as;
  formats::TensorPlan norm;
  norm.stored_as = "F16";
  formats::TensorPlan linear;
  linear.stored_as = stored_as;
  linear.grid = quant::Grid{};
  result.tensors = {norm, linear};
  result.tensor_bytes = 1'234'567;
  result.bits_per_weight = 4.5;
  return result;
}

record::Measurement metrics(const std::string& label, double perplexity, double kl) {
  record::Measurement m;
  m.label = label;
  m.perplexity_hf = {perplexity, 0.0625, 20440};
  m.perplexity_llamacpp = {perplexity - 1, 0.125, 10240};
  m.divergence.kl_mean = kl;
  m.divergence.kl_mean_uncertainty = 0.0005;
  m.divergence.kl_median = kl / 2;
  m.divergence.kl_p90 = kl * 4;
  m.divergence.kl_p99 = kl * 8;
  m.divergence.kl_p999 = kl * 16;
  m.divergence.kl_max = 2.5;
  m.divergence.top1_agreement = 0.9275;
  m.divergence.rms_delta_p = 0.03125;
  return m;
}

// The first is the reference.
record::EvaluationReport evaluation(std::vector<record::Measurement> models) {
  record::EvaluationReport e;
  e.text = "prose";
  e.seqlen = 512;
  e.windows = 40;
  e.models = std::move(models);
  e.models.front().kind = record::ModelKind::kReference;
  return e;
}

record::Report report() {
  record::Report r;
  r.source_bytes = 15'728'640;  // 15 MiB
  r.source_bits_per_weight = 16;
  r.artifacts.resize(2);
  r.artifacts[0].plan = plan("gptq", "/out/demo-GPTQ", "GPTQ 4 bit g128");
  r.artifacts[0].file_bytes = 6'291'456;
  r.artifacts[0].bits_per_weight = 6.25;
  r.artifacts[1].plan = plan("gguf", "/out/a b.gguf", "Q4_0");
  r.artifacts[1].file_bytes = 4'718'592;
  r.artifacts[1].bits_per_weight = 4.75;
  r.evaluations = {evaluation({metrics("original", 20, 0), metrics("demo-GPTQ", 20.5, 0.025),
                               metrics("a b.gguf", 21.25, 0.05)})};
  r.forward_dtype = "float32";
  r.stages = {.tokenize = 0.5,
              .load = 0.25,
              .forward = 12,
              .statistics = 3,
              .quantize = 5,
              .write = 0.125,
              .evaluate = 20};
  r.seconds = 41;
  r.peak_bytes = 851'443'712;  // 812 MiB
  r.warnings = {"one"};
  return r;
}

TEST(ReportText, ShowsEveryModelThenCostsThenFiles) {
  EXPECT_EQ(
      report_text(report(), "/runs/demo"),
      "model      format           size MiB  bits/weight      ppl     +/-  KL mean      +/-  KL p99"
      "  top-1 %\n"
      "original   safetensors          15.0       16.000  20.0000  0.0625        -        -       -"
      "        -\n"
      "demo-GPTQ  GPTQ 4 bit g128       6.0        6.250  20.5000  0.0625  0.02500  0.00050  0.2000"
      "    92.75\n"
      "a b.gguf   GGUF Q4_0             4.5        4.750  21.2500  0.0625  0.05000  0.00050  0.4000"
      "    92.75\n"
      "\n"
      "bits/weight counts all tensors: embeddings, head, scales, norms.\n"
      "ppl: 20440 predictions, every token of a window except the first. KL in nats, from the "
      "original to the artifact.\n"
      "\n"
      "Seconds: tokenize 0.5, load 0.2, forward 12.0, statistics 3.0, quantize 5.0, write 0.1, "
      "evaluate 20.0; total 41.0\n"
      "Peak memory: 812 MiB\n"
      "Calibration forward pass: float32\n"
      "Warnings: 1\n"
      "\n"
      "Load them with\n"
      "  vllm serve /out/demo-GPTQ\n"
      "  llama-cli -m '/out/a b.gguf' -p \"Once upon a time\"\n"
      "Record of the run: /runs/demo\n");
}

TEST(NextText, NamesWhatIsLeftToDo) {
  job::Job job;
  job.model.path = test::demo_model();
  job.run_dir = "/runs/a b";
  record::Report r = report();
  EXPECT_EQ(next_text(r, job, "a b.yaml"),
            "Next\n"
            "  all results as a page: calque report '/runs/a b'\n"
            "  run it again:          calque run 'a b.yaml'\n");
  r.evaluations.clear();
  EXPECT_THAT(
      next_text(r, job, "job.yaml"),
      ::testing::HasSubstr("\n  measure the loss:      calque eval /out/demo-GPTQ '/out/a b.gguf' "
                           "--reference " +
                           test::demo_model() + " --text "));
}

TEST(ReportText, LeavesOutWhatWasNotMeasured) {
  record::Report r = report();
  r.evaluations.clear();
  r.forward_dtype.clear();
  const std::string text = report_text(r, "");
  EXPECT_EQ(text.substr(0, text.find("\n\n") + 1),
            "model      format           size MiB  bits/weight\n"
            "original   safetensors          15.0       16.000\n"
            "demo-GPTQ  GPTQ 4 bit g128       6.0        6.250\n"
            "a b.gguf   GGUF Q4_0             4.5        4.750\n");
  for (const char* absent : {"ppl", "KL", "forward pass", "Record"})
    EXPECT_EQ(text.find(absent), std::string::npos) << absent;
}

TEST(PlanTable, HasARowAnExport) {
  EXPECT_EQ(plan_table({plan("gptq", "/out/demo", "GPTQ 4 bit g128")}),
            "export  format           bytes of tensors  bits/weight  quantized tensors  of\n"
            "demo    GPTQ 4 bit g128           1234567        4.500                  1   2\n");
}

formats::TensorPlan planned(const std::string& name, const std::string& gguf_name,
                            std::vector<Index> shape, const std::string& stored_as,
                            std::uint64_t bytes, Index expert = -1) {
  formats::TensorPlan result;
  result.tensor = {name, std::move(shape), gguf_name};
  result.tensor.gguf_expert = expert;
  result.stored_as = stored_as;
  result.bytes = bytes;
  return result;
}

formats::ExportPlan plan_of_experts(const std::string& format) {
  formats::ExportPlan result;
  result.request.format = format;
  result.tensors = {planned("norm", "n.weight", {32}, "F32", 128),
                    planned("experts.0.down", "down_exps.weight", {4, 32}, "Q4_0", 72, 0),
                    planned("experts.1.down", "down_exps.weight", {4, 32}, "Q4_0", 72, 1),
                    planned("head", "output.weight", {2, 32}, "Q8_0", 68)};
  return result;
}

// 32, 256 and 64 of 352 weights.
TEST(TypesTable, HasARowATypeTheMostWeightsFirst) {
  EXPECT_EQ(types_table(plan_of_experts("gguf")),
            "stored as  tensors  % of weights  bytes\n"
            "Q4_0             1         72.73    144\n"
            "Q8_0             1         18.18     68\n"
            "F32              1          9.09    128\n");
}

TEST(TensorsTable, HasARowATensorOfTheFile) {
  EXPECT_EQ(tensors_table(plan_of_experts("gguf")),
            "tensor            stored as       shape  bytes\n"
            "n.weight          F32              [32]    128\n"
            "down_exps.weight  Q4_0       [2, 4, 32]    144\n"
            "output.weight     Q8_0          [2, 32]     68\n");
  EXPECT_EQ(tensors_table(plan_of_experts("gptq")),
            "tensor          stored as    shape  bytes\n"
            "norm            F32           [32]    128\n"
            "experts.0.down  Q4_0       [4, 32]     72\n"
            "experts.1.down  Q4_0       [4, 32]     72\n"
            "head            Q8_0       [2, 32]     68\n");
}

TEST(FormatText, FallsBackToTheFormatWhenNothingIsQuantized) {
  formats::ExportPlan copies = plan("gptq", "x", "F16");
  copies.tensors.pop_back();
  EXPECT_EQ(format_text(copies), "gptq");
}

}  // namespace
}  // namespace calque::cli
