"""What the page says, in each of its languages."""

from __future__ import annotations

from config import METHODS
from deploy.settings import KEEP, MODEL

LANGUAGES = ("en", "zh")
METHOD_NAMES = dict(zip(METHODS, ("U-GAT-IT", "CycleGAN", "Pix2Pix")))
TEXTS = {
    "title": ("Image-to-image translation", "图像到图像翻译"),
    "other_language": ("中文", "English"),
    "help": (
        "Drop, paste or photograph a picture, or pick an example. It goes to this server alone, and is deleted within two hours.",
        "拖入、粘贴或拍摄一张图片，或选择一个示例。图片只发送到本服务器，两小时内删除。",
    ),
    "drawn": (
        "The models learned from drawn faces: a real photograph comes out rough.",
        "模型用绘制的人脸训练，真实照片的效果较粗糙。",
    ),
    "one": ("One picture", "单张图片"),
    "several": ("Several pictures", "多张图片"),
    "models": ("Model and direction", "模型与方向"),
    "photograph": ("photograph", "照片"),
    "anime": ("anime", "动漫"),
    "size": ("Size of the result", "结果尺寸"),
    MODEL: ("the model's", "模型尺寸"),
    KEEP: ("the picture's", "原图尺寸"),
    "examples": ("Examples", "示例"),
    "picture": ("Picture", "原图"),
    "result": ("Result", "结果"),
    "heatmap": ("Where the network looks (CAM)", "网络关注的区域（CAM）"),
    "compare": ("Compare", "对比"),
    "pictures": ("Up to {most} pictures", "图片（最多 {most} 张）"),
    "translate": ("Translate", "开始翻译"),
    "results": ("Results", "结果"),
    "zip": ("All results", "全部结果"),
    "unreadable": (
        "{name} cannot be read: it is not a picture, or it is damaged.",
        "无法读取 {name}：它不是图片，或文件已损坏。",
    ),
    "too_large": (
        "{name} has {width}x{height} pixels; at this size a picture may have {most} megapixels at most.",
        "{name} 有 {width}x{height} 像素；按此尺寸翻译的图片最多 {most} 百万像素。",
    ),
    "one_size": ("This model translates at its own size alone.", "该模型只支持模型尺寸。"),
    "too_many": ("At most {most} pictures at once.", "一次最多 {most} 张图片。"),
}


def text(language: str, key: str, **values: object) -> str:
    """A text of the page with its values put in."""
    return TEXTS[key][LANGUAGES.index(language)].format(**values)
