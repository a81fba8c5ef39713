"""Tiny folders of published model families: the class of the config and what each file holds, as far as
it is known without the files themselves.
"""

from tests.model.conftest import TEMPLATES
from tests.model.families import GPT2_SIZE, SIZE, Family, token


def ids(eos, bos=None, **others):
    """Token ids of config.json or generation_config.json."""
    return {"eos_token_id": eos, "bos_token_id": bos, **others}


def settings(kind, eos=None, bos=None, **others):
    """tokenizer_config.json."""
    tokens = {"eos_token": eos, "bos_token": bos} if eos else {}
    return {"tokenizer_class": kind, **tokens, **others}


END, IM_END, IM_START = "<|endoftext|>", "<|im_end|>", "<|im_start|>"
CHAT = (IM_START, IM_END)
TEXT_BEGIN, TEXT_END, EOM, EOT = "<|begin_of_text|>", "<|end_of_text|>", "<|eom_id|>", "<|eot_id|>"
PIECES = ("<unk>", "<s>", "</s>")
DEEPSEEK = [f"<\uff5c{name}\u2581of\u2581sentence\uff5c>" for name in ("begin", "end")]
OLMO = (
    "{{ bos_token }}{% for message in messages %}{{ '<|' + message['role'] + '|>\n' + message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{{ '\n' }}{% endfor %}"
)
LLAMA_3 = {"factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0, "rope_type": "llama3"}
LLAMA_3 |= {"original_max_position_embeddings": 64}
NAMED = {"default": TEMPLATES["Mistral"], "tool_use": OLMO}
UNTIED = {"tie_word_embeddings": False}
FAMILIES = {
    "SmolLM2-Instruct": Family(
        {
            **SIZE,
            "model_type": "llama",
            "tie_word_embeddings": True,
            "rope_theta": 100000,
            "rope_scaling": None,
        }
        | ids(IM_END, IM_START, pad_token_id=IM_END)
        | {"transformers.js_config": {"kv_cache_dtype": {"q4f16": "float16"}}},
        (END, *CHAT, "<repo_name>"),
        split="digits",
        tokenizer=settings("GPT2Tokenizer", IM_END, IM_START, unk_token=END, pad_token=IM_END)
        | {"additional_special_tokens": [*CHAT], "chat_template": TEMPLATES["SmolLM2"], "vocab_size": 49152},
        special={"additional_special_tokens": [*CHAT], "eos_token": token(IM_END)},
        generation=ids(IM_END, IM_START, _from_model_config=True),
    ),
    "Qwen3": Family(
        {**SIZE, "model_type": "qwen3", "head_dim": 16, "tie_word_embeddings": True, "rope_theta": 1000000}
        | {"sliding_window": None, "use_sliding_window": False, "max_window_layers": 2, "rope_scaling": None}
        | ids(IM_END, END),
        (END, *CHAT),
        split="pattern",
        padded=20,
        tokenizer=settings("Qwen2Tokenizer", IM_END, pad_token=END, unk_token=None, add_bos_token=False)
        | {"errors": "replace", "split_special_tokens": False, "padding_side": "left"}
        | {"chat_template": TEMPLATES["SmolLM2"]},
        generation=ids([IM_END, END], END, do_sample=True, temperature=0.6, top_k=20, top_p=0.95),
    ),
    "Llama-3.2-Instruct": Family(
        {
            **SIZE,
            "model_type": "llama",
            "tie_word_embeddings": True,
            "rope_theta": 5e5,
            "rope_scaling": LLAMA_3,
        }
        | ids([TEXT_END, EOM, EOT], TEXT_BEGIN),
        (TEXT_BEGIN, TEXT_END, "<|start_header_id|>", "<|end_header_id|>", EOM, EOT),
        split="pattern",
        bos=TEXT_BEGIN,
        start=TEXT_BEGIN,
        tokenizer=settings("PreTrainedTokenizerFast", EOT, TEXT_BEGIN, clean_up_tokenization_spaces=True)
        | {"chat_template": TEMPLATES["Llama 3.2"]},
        special={"bos_token": token(TEXT_BEGIN), "eos_token": token(EOT)},
        generation=ids([TEXT_END, EOM, EOT], TEXT_BEGIN, temperature=0.6, do_sample=True),
        files={"original/params.json": "{}", "LICENSE.txt": "terms", "USE_POLICY.md": "policy"},
    ),
    "Gemma 3": Family(
        {
            **SIZE,
            "model_type": "gemma3_text",
            "head_dim": 8,
            "sliding_window": 128,
            "sliding_window_pattern": 6,
        }
        | {"query_pre_attn_scalar": 8, "rope_local_base_freq": 10000, "rope_theta": 1000000}
        | {"final_logit_softcapping": None, "attn_logit_softcapping": None, "cache_implementation": "hybrid"}
        | ids(["<eos>", "<end_of_turn>"], "<bos>", pad_token_id="<pad>"),
        ("<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"),
        ("<image_soft_token>",),
        split="spaces",
        bos="<bos>",
        start="<bos>",
        tokenizer=settings("GemmaTokenizer", "<eos>", "<bos>", pad_token="<pad>", unk_token="<unk>")
        | {"add_bos_token": True, "add_eos_token": False, "image_token": "<image_soft_token>"}
        | {"extra_special_tokens": {"image_token": "<image_soft_token>"}, "sp_model_kwargs": None}
        | {"chat_template": TEMPLATES["Gemma 3"]},
        special={"bos_token": token("<bos>"), "image_token": "<image_soft_token>"},
        generation=ids(["<eos>", "<end_of_turn>"], cache_implementation="hybrid", do_sample=True)
        | {"top_k": 64, "top_p": 0.95},
    ),
    "OLMo 2": Family(
        {
            **SIZE,
            **UNTIED,
            "model_type": "olmo2",
            "rope_theta": 500000,
            **ids(END, END, pad_token_id="<|pad|>"),
        },
        (END, "<|pad|>"),
        split="pattern",
        padded=10,
        tokenizer=settings("GPT2Tokenizer", END, END, pad_token="<|pad|>", unk_token=END, chat_template=OLMO),
        generation=ids(END, pad_token_id="<|pad|>"),
    ),
    "Pythia": Family(
        {
            **SIZE,
            **UNTIED,
            "model_type": "gpt_neox",
            "rotary_pct": 0.25,
            "rotary_emb_base": 10000,
            **ids(END, END),
        },
        (END, "<|padding|>"),
        padded=27,
        buffers=("attention.bias", "attention.masked_bias", "attention.rotary_emb.inv_freq"),
        tokenizer=settings("GPTNeoXTokenizer", END, END, unk_token=END, add_prefix_space=False),
        special={"bos_token": END, "eos_token": END, "unk_token": END},
    ),
    "GPT-2": Family(
        {**GPT2_SIZE, "model_type": "gpt2", "n_ctx": 256, "task_specific_params": {"text-generation": {}}}
        | ids(END, END, summary_type="cls_index"),
        prefix="transformer.",
        buffers=("attn.bias",),
        tokenizer={"model_max_length": 1024},
        generation=ids(END, END, _from_model_config=True),
    ),
    "GPT-Neo": Family(
        {"model_type": "gpt_neo", "hidden_size": 32, "num_layers": 2, "num_heads": 4, "window_size": 16}
        | {"attention_types": [[["global", "local"], 1]], "max_position_embeddings": 256}
        | ids(END, END, intermediate_size=None),
        pickled=True,
        buffers=("attn.attention.bias", "attn.attention.masked_bias"),
        tokenizer=settings("GPT2Tokenizer", token(END), token(END), unk_token=token(END), pad_token=None)
        | {"errors": "replace", "add_bos_token": False},
        special={"eos_token": token(END)},
    ),
    "Phi 1.5": Family(
        {**SIZE, **UNTIED, "model_type": "phi", "partial_rotary_factor": 0.5, "qk_layernorm": False}
        | ids(None, resid_pdrop=0.0),
        padded=30,
        start=END,
        tokenizer=settings("CodeGenTokenizer", END, END, unk_token=END, add_prefix_space=False),
        generation={"_from_model_config": True},
    ),
    "Phi 3": Family(
        {**SIZE, **UNTIED, "model_type": "phi3", "sliding_window": 2047, "rope_scaling": None}
        | {
            "auto_map": {"AutoConfig": "configuration_phi3.Phi3Config"},
            "original_max_position_embeddings": 256,
        }
        | ids(END, "<s>", pad_token_id=END),
        (*PIECES, END, "<|assistant|>", "<|end|>", "<|user|>"),
        split="spaces",
        tokenizer=settings("LlamaTokenizer", END, "<s>", pad_token=END, unk_token="<unk>", legacy=False)
        | {"add_bos_token": False, "add_eos_token": False, "padding_side": "left"}
        | {"chat_template": TEMPLATES["Phi 3"]},
        generation=ids([END, "<|assistant|>", "<|end|>"]),
        files={"configuration_phi3.py": "raise", "added_tokens.json": "{}"},
    ),
    "Mistral-Instruct": Family(
        {**SIZE, **UNTIED, "model_type": "mistral", "sliding_window": None, "rope_theta": 1000000.0}
        | ids("</s>", "<s>", head_dim=8),
        (*PIECES, "[INST]", "[/INST]"),
        split="spaces",
        bos="<s>",
        start="<s>",
        tokenizer=settings(
            "LlamaTokenizer", "</s>", "<s>", unk_token="<unk>", legacy=False, add_bos_token=True
        )
        | {"chat_template": [{"name": name, "template": text} for name, text in NAMED.items()]},
        generation=ids("</s>", "<s>", _from_model_config=True),
        files={"tekken.json": "{}", "params.json": "{}"},
    ),
    "Falcon": Family(
        {"model_type": "falcon", "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
        | {"multi_query": True, "parallel_attn": True, "new_decoder_architecture": False, "alibi": False}
        | {"auto_map": {"AutoConfig": "configuration_falcon.FalconConfig"}, "max_position_embeddings": 256}
        | ids(END, END, bias=False),
        (">>TITLE<<", ">>ABSTRACT<<", END),
        tokenizer=settings("PreTrainedTokenizerFast", END, add_prefix_space=False, model_max_length=2048)
        | {"model_input_names": ["input_ids", "attention_mask"]},
        special={"additional_special_tokens": [">>TITLE<<", ">>ABSTRACT<<"], "eos_token": END},
        generation=ids(END, _from_model_config=True),
    ),
    "TinyLlama": Family(
        {
            **SIZE,
            **UNTIED,
            "model_type": "llama",
            "rope_theta": 10000.0,
            "pretraining_tp": 1,
            **ids("</s>", "<s>"),
        },
        split="pieces",
        start="<s>",
        tokenizer=settings(
            "LlamaTokenizer", token("</s>"), token("<s>"), unk_token=token("<unk>"), legacy=False
        )
        | {"sp_model_kwargs": {}, "use_default_system_prompt": False, "pad_token": "</s>"}
        | {"padding_side": "right", "chat_template": TEMPLATES["TinyLlama"]},
        special={"bos_token": token("<s>"), "eos_token": token("</s>"), "pad_token": "</s>"},
        generation=ids("</s>", "<s>", max_length=2048, pad_token_id=0),
    ),
    "OPT": Family(
        {"model_type": "opt", "hidden_size": 32, "ffn_dim": 64, "num_hidden_layers": 2, "dropout": 0.0}
        | {
            "num_attention_heads": 4,
            "word_embed_proj_dim": 32,
            "max_position_embeddings": 256,
            "prefix": "</s>",
        }
        | ids("</s>", "</s>", pad_token_id="<pad>"),
        ("<s>", "<pad>", "</s>", "<unk>"),
        split="merges",
        pickled=True,
        tokenizer=settings("GPT2Tokenizer", token("</s>"), token("</s>"), pad_token=token("<pad>"))
        | {"unk_token": token("</s>"), "errors": "replace", "add_prefix_space": False, "add_bos_token": True},
        special={"bos_token": token("</s>"), "eos_token": token("</s>")},
    ),
    "DeepSeek LLM": Family(
        {**SIZE, **UNTIED, "model_type": "llama", "attention_bias": False, **ids(DEEPSEEK[1], DEEPSEEK[0])},
        tuple(DEEPSEEK),
        split="pattern",
        start=DEEPSEEK[0],
        tokenizer=settings("LlamaTokenizerFast", token(DEEPSEEK[1]), token(DEEPSEEK[0]), unk_token=None)
        | {"add_bos_token": True, "add_eos_token": False, "legacy": True, "sp_model_kwargs": {}}
        | {"chat_template": TEMPLATES["Mistral"]},
    ),
    "StableLM 2": Family(
        {**SIZE, **UNTIED, "model_type": "stablelm", "partial_rotary_factor": 0.25, "use_qkv_bias": True}
        | ids(END, END, layer_norm_eps=1e-05, num_key_value_heads=4),
        (END, *CHAT),
        split="pattern",
        tokenizer=settings("GPT2Tokenizer", IM_END, END, pad_token=END, chat_template=TEMPLATES["TinyLlama"]),
    ),
    "SmolLM3": Family(
        {**SIZE, "model_type": "smollm3", "no_rope_layers": [1, 0], "no_rope_layer_interval": 2}
        | {"layer_types": ["full_attention"] * 2, "tie_word_embeddings": True, "use_sliding_window": False}
        | ids(IM_END, TEXT_BEGIN, pad_token_id=TEXT_END, rope_theta=5e6),
        (TEXT_BEGIN, TEXT_END, *CHAT),
        split="pattern",
        tokenizer=settings("PreTrainedTokenizerFast", IM_END, fast=False, pad_token=IM_END),
        generation=ids(IM_END, do_sample=True, temperature=0.6, top_p=0.95),
        files={"chat_template.jinja": TEMPLATES["SmolLM3"]},
    ),
    "MPT": Family(
        {"model_type": "mpt", "d_model": 32, "n_heads": 4, "n_layers": 2, "max_seq_len": 256}
        | {"attn_config": {"alibi": True, "alibi_bias_max": 8, "attn_impl": "torch"}, "no_bias": True}
        | ids(END, END, expansion_ratio=2),
        tokenizer=settings("GPTNeoXTokenizer", END, END),
    ),
    "Bloom": Family(
        {"model_type": "bloom", "hidden_size": 32, "n_head": 4, "n_layer": 2, "seq_length": 256}
        | ids("</s>", "<s>", pad_token_id="<pad>", offset_alibi=100),
        (*PIECES, "<pad>"),
        split="pattern",
        tokenizer=settings("BloomTokenizerFast", "</s>", "<s>", unk_token="<unk>", pad_token="<pad>")
        | {"add_prefix_space": False, "padding_side": "left"},
    ),
    "StarCoder": Family(
        {**GPT2_SIZE, "model_type": "gpt_bigcode", "multi_query": True, **ids(END, END, resid_pdrop=0.0)},
        (END, "<fim_prefix>", "<filename>"),
        split="digits",
        tokenizer=settings("GPT2TokenizerFast", END, END, vocab_size=49152)
        | {"additional_special_tokens": [END, "<fim_prefix>"]},
        special={"additional_special_tokens": ["<fim_prefix>"], "bos_token": END},
    ),
}
