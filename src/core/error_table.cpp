#include "calque/core/error_table.h"

#include <algorithm>

namespace calque {
namespace {

constexpr ErrorEntry kErrors[] = {
    // the command line
    {"E001", 2, "The command line is not one that calque understands.",
     "An unknown command, an option that does not exist, or a missing argument.",
     "calque COMMAND --help shows what the command takes, with examples."},

    // the job file: its text
    {"E101", 2, "A key of the file is unknown.",
     "Keys are never ignored: a typo such as 'group_sze' would otherwise run a job that you did "
     "not "
     "ask for. The message gives file:line:column and the nearest key that exists.",
     "Correct the spelling. 'calque schema' lists every key."},
    {"E102", 2, "A key is written twice.",
     "YAML readers take the first or the last silently; calque takes neither.",
     "Remove one of the two; the message gives both lines."},
    {"E103", 2, "A key is another tool's name for something that calque calls differently.",
     "Such keys (w_bit, zero_point, nsamples, ...) are recognised only for this hint and never "
     "translated, because defaults and meanings differ: zero_point: true means sym: false.",
     "Write the key that the message names."},
    {"E104", 2, "The file is not YAML as job files use it.",
     "Maps, lists and plain values only: anchors, tags, merge keys (<<) and several documents are "
     "refused, because readers disagree on what they mean.",
     "Correct the place that the message names, or write the values out."},
    {"E105", 2, "A value has the wrong kind, such as text where a number belongs.",
     "Quoted numbers are text. A section (key: value) is not a list (- entry).",
     "Write the kind of value that the message asks for."},
    {"E106", 2, "A number is outside the range of its key.", "",
     "Choose a value in the range that the message gives."},
    {"E107", 2, "A value is not one of the names that the key knows.", "",
     "Choose one of the names in the message; 'calque schema' lists them, too."},
    {"E108", 2, "A key that cannot be left out is missing.", "",
     "Add the key that the message names. configs/ holds complete examples."},
    {"E109", 2, "Two keys exclude each other, or one means nothing beside the other.",
     "A setting that nothing reads would look as if it had been applied.",
     "Remove the one that the message names."},
    {"E110", 2, "The file's version is not one that this calque reads.", "",
     "Write version: 1, or use the calque that the file was written for."},
    {"E111", 2, "The job file cannot be read.",
     "It does not exist, is a folder, is not readable for you, or is larger than 1 MiB.",
     "Check the path and its permissions."},

    // the job file: methods and devices
    {"E112", 2, "The quantization method is unknown.", "", "Choose one of those that `calque schema` lists for quantization.method."},
    {"E113", 2, "awq.loss: output cannot be combined with propagate_error: false.",
     "That loss runs parts of a block while its inputs are there, and they are not kept when all "
     "statistics come from the original model.",
     "Use awq.loss: gram, or propagate_error: true."},
    {"E114", 2, "quantization.imatrix does not apply to this job.",
     "An importance matrix says how much each column counts. GPTQ and AWQ measure that themselves "
     "from calibration text, and only GGUF's block types can use it.",
     "Set method: rtn and export gguf, or remove quantization.imatrix."},
    {"E115", 2, "calibration.save_imatrix has nothing to save.",
     "It stores what calibration text showed, and the job has none.",
     "Give calibration.sources or calibration.tokens, or remove the key."},
    {"E116", 2, "quantization.upstream_correction cannot be applied in this job.",
     "It moves weights before GPTQ rounds them so that they make up for errors of earlier blocks; "
     "that needs GPTQ, calibration text and propagate_error: true.",
     "Remove the key, or change the setting that the message names."},
    {"E117", 2, "The key is no longer one of the job file's.",
     "It chose what nobody could choose well, or was a second way to write another key.",
     "Write what the message says instead."},
    {"E121", 2, "The format has no room for this width.",
     "'awq' stores 4-bit weights only; each container has its own list.",
     "Use a width that the format stores, or export to another: gptq stores 2, 3, 4 and 8 bits, "
     "gguf "
     "has types from Q2_K to Q8_0."},
    {"E122", 2, "An export format, or one of its types, is unknown.", "",
     "Use the nearest name in the message, or one of those that it lists."},
    {"E123", 2, "The model cannot be written in this format.",
     "GGUF files describe a model with keys of their architecture; some families, or some settings "
     "of theirs (a kind of RoPE, a bias), have none there.",
     "Export gptq, awq or compressed-tensors, which keep config.json as it is."},
    {"E124", 2, "A rule quantizes lm_head, which is the embedding.",
     "tie_word_embeddings: true means that there is no lm_head.weight of its own, and folders keep "
     "the "
     "embedding as it is.",
     "Remove skip: false from the rule for lm_head."},
    {"E125", 2, "The rules skip every module.", "There would be nothing to quantize.",
     "Remove a rule with skip: true, or narrow its pattern."},
    {"E126", 2, "A folder cannot be made from a GGUF file.",
     "Folders need config.json and the tokenizer's files, which a GGUF file does not hold.",
     "Start from the model's original folder, or export gguf."},
    {"E127", 2, "The device named for a stage lacks an operation that the method needs.",
     "auto chooses a device that provides everything; a device named in the job is taken at its "
     "word.",
     "Set the stage to cpu or auto (runtime.stages). 'calque doctor' lists what devices provide."},
    {"E128", 2, "The device named for a stage does not exist here.",
     "No such GPU, no driver, or a calque without its CUDA plug-in.",
     "Set the stage to cpu or auto. 'calque doctor' says which devices there are and why not."},
    {"E129", 2, "The forward pass cannot run on that GPU.",
     "It is LibTorch's, and this LibTorch sees no such GPU: it may be built without CUDA.",
     "Set runtime.stages.forward: cpu, or build with a CUDA LibTorch."},
    {"E130", 2, "The program cannot use an instruction set that it needs, or was told to use.",
     "calque needs a processor with x86-64-v3 (AVX2, FMA, F16C, BMI; Intel since Haswell, AMD since "
     "Excavator). CALQUE_ISA forces avx2, avx512 or amx, if the processor has them; a build with "
     "CALQUE_NATIVE=ON has the one set of the machine that built it.",
     "Unset CALQUE_ISA, or name one of the sets that the message or 'calque doctor' lists."},
    {"E131", 2, "group_size does not divide the inputs of some modules.",
     "Every group needs as many weights as the others. The message names the modules, factorises "
     "their "
     "width, and lists the sizes that fit all of them.",
     "Use one of those sizes; -1 (one group a row) always fits."},
    {"E132", 2, "Rows are not whole blocks of the type, or not whole words of the container.",
     "K-quants store 256 weights a block, other GGUF types 32. llama.cpp quietly stores such "
     "tensors "
     "in a larger type; the file is then larger than its name says.",
     "Set on_shape_fallback: allow to accept that, choose a type with smaller blocks (Q5_0, Q8_0, "
     "IQ4_NL), or leave the modules as they are with a rule (skip: true)."},

    // the job file: what a runtime could not load
    {"E141", 2, "The tensor-parallel size asked for is not possible.",
     "Groups may not straddle two ranks and heads must be shared out evenly. The message lists the "
     "sizes that work.",
     "Use one of those sizes, a smaller group_size, or remove require.tensor_parallel."},
    {"E142", 2, "Projections that vLLM fuses have different settings.",
     "q, k and v (and gate and up) become one matrix there, which has one width and one group "
     "size.",
     "Let the rule match all of them, such as 're:.*\\.(q|k|v)_proj$', or remove require.vllm."},
    {"E143", 2, "vLLM's Marlin kernel does not take a matrix of this shape.", "",
     "Skip the module with a rule, use a smaller tensor-parallel size, or remove require.vllm."},
    {"E144", 2, "vLLM's kernels for experts cannot load this.", "",
     "Do what the message says: skip routers, write desc_act: false, or remove require.vllm."},
    {"E145", 2, "'require' does not apply to gguf.",
     "vLLM's GGUF loader is experimental and gives no rules that could be checked.",
     "Remove 'require' from the export, or export gptq, awq or compressed-tensors."},
    {"E146", 2, "vLLM has no kernel for this width or group size.", "",
     "Use 4 or 8 bits, symmetric, with group_size 32, 64, 128 or -1; or remove require.vllm."},

    // the job file: patterns
    {"E151", 2, "A rule matches nothing.",
     "A pattern with a typo would otherwise leave modules as they are without a word. The message "
     "names "
     "the nearest module.",
     "Correct the pattern, or write allow_no_match: true if that is intended."},
    {"E152", 2, "A rule's pattern is not a pattern.",
     "Patterns are exact names, globs (*, ?), or regular expressions after 're:'.",
     "Correct the place that the message names."},

    // models
    {"E161", 3, "The model's architecture is not supported.",
     "calque never guesses how a model computes: it runs the families it knows.",
     "Use one of the architectures that the message lists."},
    {"E162", 3,
     "config.json (or another JSON file of the model) is damaged or says something unknown.", "",
     "Download the file again; if it is complete, the model uses a feature that the message "
     "names."},
    {"E163", 3, "The tensors do not fit the configuration.",
     "Names or shapes differ from what config.json asks for: shards of another model, an "
     "incomplete "
     "download, or an edited config.json.",
     "Restore config.json and the shards from the same source."},
    {"E164", 3, "The checkpoint holds a weight that is infinite or not a number.",
     "It is damaged, or its training diverged; the message says where.",
     "Download or convert it again ('calque verify' checks files that calque has written)."},
    {"E165", 2, "This calque runs models on the CPU only.",
     "GPUs and device \"tensors\" need the LibTorch plug-in (libcalque_torch.so), which is missing "
     "or cannot be loaded.",
     "Set runtime.stages.forward: cpu, or build with CALQUE_TORCH=ON and keep the plug-in beside the "
     "program or in ../lib/calque."},
    {"E166", 2, "The compute dtype is unknown.", "", "Choose auto, float32 or bfloat16."},
    {"E167", 3, "A token id is outside the model's vocabulary.",
     "The text was tokenized for another model.", "Tokenize it with this model's tokenizer."},
    {"E168", 2, "SentencePiece cannot be loaded.",
     "tokenizer.model files need a plug-in that is not where calque looks.",
     "Keep it beside the program or in ../lib/calque, or use a model with a tokenizer.json."},
    {"E169", 3, "The model is quantized already.",
     "Rounding it again loses twice, and the result would be compared with the wrong original.",
     "Start from the original (F32, F16 or BF16), or set model.allow_requantize: true."},
    {"E171", 2, "There is no tensor with that name.", "",
     "Use one of the names that the message offers; 'calque inspect --tensors' lists all."},
    {"E172", 2, "The output folder is the artifact itself.", "",
     "Choose another folder for --out."},

    // sweeps
    {"E181", 2, "A key or value stands twice in the sweep file.", "",
     "Remove one: each key is swept once, each value is one point."},
    {"E182", 2, "`exclude` names a key that is not swept.", "",
     "Name a key of grid or paired; the message lists them."},
    {"E183", 2, "The sweep file sets a key that every point sets itself.",
     "Names, run folders and export paths come from the sweep's own folder.",
     "Remove the key; `output` says where the sweep writes."},
    {"E184", 2, "`exclude` fits no point, or leaves none.", "",
     "Correct its values; 'calque sweep FILE --list' numbers the points."},
    {"E185", 2, "Two points of the sweep are the same job.",
     "Their settings differ in words only, so they would be measured twice.",
     "Exclude one of them."},
    {"E186", 2, "Some points of the sweep cannot work.",
     "All points are planned before one runs; the message has each point's own error.",
     "Exclude them, or set on_invalid: skip to have them listed as failed."},
    {"E187", 2, "Statistics cannot be shared between these points.",
     "With quantization.propagate_error: true what a layer sees depends on how the layers before "
     "it were rounded.",
     "Set quantization.propagate_error: false, or leave statistics out of `share`."},
    {"E191", 4, "The sweep's folder cannot be written.", "",
     "Choose another `output`, or mend its permissions."},
    {"E192", 2, "--only or --shard does not name points of this sweep.", "",
     "See 'calque sweep FILE --list' for the numbers; shards are 0/4 to 3/4."},
    {"E195", 7, "Runs of the sweep failed.",
     "The other points are done; results.csv has each error.",
     "Mend the cause and give the same command again: what is done is skipped."},
    {"E197", 3, "Statistics that were kept for other points are damaged.", "",
     "Delete the folder that the message names; they are measured again."},

    // text and tokens
    {"E201", 3, "There is not enough text.",
     "n_samples x seqlen tokens are needed exactly: fewer would be a different calibration than "
     "the one "
     "asked for. The message says how many rows there are.",
     "Add data, or set n_samples to the number in the message."},
    {"E202", 3, "A file that the job names does not exist.",
     "Paths are relative to the job file, not to the folder you are in.", "Correct the path."},
    {"E203", 2, "The method needs calibration text.", "GPTQ and AWQ measure what each layer sees.",
     "Give calibration.sources or calibration.tokens, or use method: rtn."},
    {"E205", 2, "calibration has both sources and tokens.", "", "Keep one of them."},
    {"E206", 2, "evaluate has no texts, or one of them is neither text nor tokens.", "",
     "Give evaluate.texts, and in each of its entries either text or tokens."},
    {"E207", 2, "Sequences are longer than the model allows.",
     "Beyond max_position_embeddings a model's output means nothing.",
     "Use the length that the message gives."},
    {"E208", 2, "Two exports write the same path.", "", "Give each its own path."},
    {"E209", 2, "What would be written already exists.", "Nothing is ever replaced unasked.",
     "Set overwrite: true in the export (or give --overwrite), or choose another path."},
    {"E211", 3, "The tokenizer uses a part that is not implemented.",
     "A tokenizer that is read almost right gives other ids, and every measurement on them is "
     "wrong; so "
     "calque does not guess.",
     "Give token ids made with the model's own tokenizer (.safetensors) in place of text."},

    // evaluation
    {"E231", 2, "Reference and artifact have different vocabularies.",
     "KL divergence compares two distributions over the same tokens.",
     "Give the model that the artifact was made from as the reference."},
    {"E232", 2, "There is nothing to predict.",
     "An evaluation needs at least one window of two tokens.",
     "Use a longer text or a shorter seqlen."},
    {"E233", 3, "A token id of the evaluation is outside the vocabulary.",
     "The text was tokenized for another model.", "Tokenize it with this model's tokenizer."},
    {"E234", 3, "The importance matrix does not fit the model.",
     "It was measured on another model, or is damaged.",
     "Measure it on this model: calque imatrix MODEL TEXT -o FILE."},

    {"E241", 2, "Attention heads are no whole blocks of the cache's type.",
     "llama.cpp's types store blocks of 32 numbers of one head.", "Use fp8 or f16 for this model."},
    {"E242", 2, "A text of the evaluation has no name of its own.",
     "Names are columns of tables: letters, digits, - and _, each used once.", "Rename it."},
    {"E243", 2, "`layers` of a cache is no list of this model's layers.", "",
     "Write numbers and ranges, such as 0-3,7, below the number that the message gives."},
    {"E244", 2, "There is no such type for a key/value cache.", "",
     "Use q8_0, q5_1, q4_0, fp8 or f16."},
    {"E245", 2, "An entry of evaluate.kv_cache names no type, or another's name.", "",
     "Give k_type and v_type, or one of them; and a `name` if two entries have the same types."},
    {"E246", 2, "The model names no BOS.",
     "evaluate.add_bos: true begins every window with the token that the tokenizer puts first, or "
     "with config.json's bos_token_id.",
     "Set evaluate.add_bos: auto."},

    // reports
    {"E251", 3, "The folder holds neither a run nor a sweep.",
     "A run folder has metrics.json, or job.resolved.yaml while it runs; a sweep folder has "
     "results.csv; "
     "an artifact folder that calque has written has calque/metrics.json.",
     "Give the run_dir of a job or the output of a sweep. GGUF files carry no record of their "
     "run."},
    {"E252", 3, "A file of the run's or the sweep's record is damaged.",
     "The message names the file and the place. calque writes these files whole or not at all, so "
     "something else has changed them.",
     "Restore the file, or repeat the run ('calque sweep' writes results.csv anew)."},
    {"E253", 2, "Nothing was measured.",
     "The folders hold no finished model, or none with the figures that the command needs.",
     "Let the run finish, or add 'evaluate' to the job."},
    {"E254", 2, "No measured model is within the bounds.",
     "The message gives the smallest model and the closest one.",
     "Relax --max-kl, --max-bytes or --max-bits-per-weight, or measure other settings."},
    {"E255", 2, "The runs were made from different originals.",
     "KL divergence measures the distance to a model's own original, so it does not say which of "
     "two "
     "models with different originals is better.",
     "Give the runs of one original. 'calque compare' puts different ones side by side, with "
     "perplexity "
     "where it was measured on the same tokens."},

    // memory and disk
    {"E301", 4, "The memory budget cannot work.",
     "The message adds up what the worst stage holds at once, even with all activations in files.",
     "Set runtime.max_ram to the number in the message, or leave it out. Fewer threads, and "
     "shorter or "
     "fewer calibration rows, need less."},
    {"E302", 4, "The disk is full.",
     "The message says how much was wanted and how much is free. Nothing half-written becomes "
     "visible; "
     "what was "
     "finished is.",
     "Free space, or point runtime.offload_dir and the export's path to a larger disk; then "
     "continue."},
    {"E303", 4, "The run folder cannot be written.", "",
     "Choose another run_dir, or mend its permissions."},
    {"E304", 4, "Memory ran out.",
     "Something else may be using it, or a limit (ulimit, a container's) is below what the plan "
     "predicts.",
     "Give a budget (runtime.max_ram; activations beyond it go to runtime.offload_dir), fewer "
     "calibration "
     "rows (calibration.n_samples) or fewer threads (runtime.threads). Exports that are finished "
     "are "
     "kept."},

    {"E305", 2, "The run cannot be gone on with.",
     "The model, a text, a setting or the program changed since it stopped; its other half would "
     "not fit. The message names what differs, with both values.",
     "Restore it, or start anew: calque run JOB --resume never."},
    {"E306", 2, "Another process is working on this folder or export.",
     "Two runs would write over each other.",
     "Wait for the process that the message names, or choose another run_dir or export path."},
    {"E307", 3, "What the run saved is damaged.",
     "A journal that was only cut off is used up to its last whole record; this one has other "
     "faults.",
     "Start anew: calque run JOB --resume never. Exports that are finished are kept."},
    {"E308", 3, "A part that was finished is gone.",
     "The journal lists it, and the file is not there, or is another run's.",
     "Put it back, or start anew: calque run JOB --resume never."},

    // numbers
    {"E401", 5, "A module could not be rounded as asked, and no more fallbacks are allowed.",
     "Its Hessian is not positive definite even with the largest damping: inputs that are never "
     "active, "
     "extreme outliers, or too little text.",
     "Try more calibration text (n_samples), a larger damp_percent, or a rule with method: rtn for "
     "the "
     "module; or allow fallbacks (quantization.fallback.max_modules), which are listed in the "
     "report."},
};

}  // namespace

std::span<const ErrorEntry> error_table() { return kErrors; }

const ErrorEntry* find_error(std::string_view code) {
  const auto found = std::ranges::find(kErrors, code, &ErrorEntry::code);
  return found == std::end(kErrors) ? nullptr : found;
}

}  // namespace calque
