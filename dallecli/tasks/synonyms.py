"""What other programs call our values, and which name a misspelled one was meant to be."""

from collections.abc import Collection, Mapping
from difflib import get_close_matches
from typing import Final

CLOSE: Final = 0.8
"""How alike two names are, from 0 to 1, for one to be a misspelling of the other."""

_NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "n": ("count", "num_images", "num_images_per_prompt", "n_samples", "num_samples", "samples", "images", "number"),
    "num": ("count", "num_images", "num_images_per_prompt", "n_samples", "num_samples", "samples", "images", "number"),
    "guidance": ("cfg", "cfg_scale", "guidance_scale", "scale", "cfgscale"),
    "prior_guidance": ("prior_cfg", "prior_cfg_scale", "prior_guidance_scale", "prior_cf_scale"),
    "steps": ("num_inference_steps", "inference_steps", "sampling_steps", "ddim_steps", "num_steps", "sample_steps"),
    "prior_steps": ("prior_num_inference_steps",),
    "upsampler_steps": ("super_res_num_inference_steps", "sr_steps"),
    "size": ("width", "height", "W", "H", "w", "h", "resolution", "image_size", "res", "pixels"),
    "seed": ("random_seed", "manual_seed", "S"),
    "sampler": ("scheduler", "sampling_method", "sampler_name", "sampling_sampler"),
    "negative": ("negative_prompt", "neg", "neg_prompt", "negprompt", "uncond", "exclude"),
    "init": ("init_image", "init_img", "initial_image", "image", "img", "input", "i", "I"),
    "class": ("class_name", "class_label", "class_id", "classes", "category", "y"),
    "continue": ("complete", "completion", "prefix", "init_tokens"),
    "strength": ("denoising_strength", "denoise", "denoising", "image_strength"),
    "mask": ("mask_image", "maskimage", "inpaint_mask"),
    "frames": ("num_frames", "n_frames", "interpolation_steps"),
    "to": ("prompt", "text", "target", "instruction"),
    "model": ("checkpoint", "ckpt", "model_id", "model_name", "model_path", "pretrained_model", "M"),
    "device": ("gpu", "cuda", "cpu", "mps", "use_cpu", "accelerator"),
    "dtype": ("precision", "half", "fp16", "bf16", "fp32", "float16", "bfloat16", "float32", "torch_dtype", "no_half"),
    "memory": ("lowvram", "medvram", "low_vram", "low_memory", "lowmem", "offload", "vram"),
    "batch": ("batch_size", "bs"),
    "prompts": ("prompt_file", "from_file", "prompts_file", "file", "prompt_list"),
    "prompt": ("text", "caption", "words", "prompts"),
    "out": ("output_dir", "outdir", "out_dir", "output_folder", "output_path", "outpath", "folder", "dir", "directory"),
    "output": ("output_file", "outfile", "out_file", "filename", "file_name", "save", "save_as", "O"),
    "force": ("overwrite", "replace", "clobber", "f"),
    "format": ("file_type", "filetype", "ext", "extension", "output_format", "image_format"),
    "no_metadata": ("strip", "strip_metadata", "no_exif"),
    "open": ("view", "viewer", "display"),
    "preview": ("show", "show_image"),
    "dry_run": ("dryrun", "simulate", "pretend", "check"),
    "quiet": ("silent", "no_progress"),
    "debug": ("traceback", "verbose", "v"),
    "label": ("labels", "caption", "captions", "title"),
    "columns": ("cols", "ncol", "ncols"),
    "rows": ("nrow", "nrows", "n_rows", "keep_rows"),
}
"""Foreign names by ours, with underscores. One name may stand for several of ours: the first that is known counts."""


def meant(name: str, known: Collection[str]) -> str | None:
    """Which of the known names somebody meant who wrote this one, as another program's or misspelled; None if unclear.

    Hyphens and underscores are alike, and what is returned is written as in `known`.
    """
    ours = {one.replace("-", "_"): one for one in known}
    given = name.replace("-", "_")
    for spelling in (given, given.lower()):
        if spelling in ours:
            return ours[spelling]
        for own, foreign in _NAMES.items():
            if own in ours and spelling in foreign:
                return ours[own]
    close = get_close_matches(given.lower(), ours, n=1, cutoff=CLOSE)
    return ours[close[0]] if close else None
