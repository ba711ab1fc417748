"""The words of a generated inbox: channels, names, sentences, attachments.

They are here so that `account` has behaviour only. Nothing belongs to a real person: names are
combined from lists, phone numbers are `0900000` and three digits, links end in `.example`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from random import Random


@dataclass(frozen=True, slots=True)
class Channel:
    """A kind of page: the form of its ids, its language, and its kinds of threads."""

    platform: str
    prefix: str
    country: str
    language: str
    timezone: float
    types: tuple[str, ...]


_INBOX_ONLY = ("INBOX",)
_INBOX_AND_COMMENTS = ("INBOX", "INBOX", "INBOX", "COMMENT")

CHANNELS = (
    Channel("facebook", "", "VN", "vi", 7, (*_INBOX_AND_COMMENTS, *_INBOX_AND_COMMENTS, "RATING")),
    Channel("line", "ln_", "TH", "th", 7.0, _INBOX_ONLY),
    Channel("tiktok_business_messaging", "ttm_", "ID", "id", 8, _INBOX_ONLY),
    Channel("instagram_official", "igo_", "TH", "th", 7, _INBOX_AND_COMMENTS),
    Channel("personal_zalo", "pzl_", "VN", "vi", 7, _INBOX_ONLY),
    Channel("whatsapp", "wa_", "ID", "id", 7, _INBOX_ONLY),
    Channel("zalo", "zl_", "VN", "vi", 7, _INBOX_ONLY),
    Channel("tiktok", "tt_", "TH", "th", 7, ("COMMENT",)),
)

SHOPS = {
    "vi": ("Tiệm Bánh Mây Hồng", "Vườn Nhà Đậu Đỏ", "Gốm Xứ Sương"),
    "th": ("ร้านเมฆสีชมพู", "บ้านขนมดอกแก้ว", "สวนใบไม้เล็ก"),
    "id": ("Toko Awan Jingga", "Dapur Melati Kecil", "Kebun Embun"),
}
_GIVEN = {
    "vi": (
        "Ánh",
        "Bảo",
        "Cúc",
        "Đạt",
        "Hường",
        "Khôi",
        "Mỹ",
        "Nghĩa",
        "Quỳnh",
        "Thảo",
        "Uyên",
        "Vỹ",
    ),
    "th": ("กมล", "จันทร์", "ชัย", "ดาว", "นภา", "ปิ่น", "พลอย", "มะลิ", "ฤดี", "วารี", "สายฝน", "อรุณ"),
    "id": (
        "Adi",
        "Bunga",
        "Citra",
        "Dewi",
        "Eka",
        "Fitri",
        "Gilang",
        "Indah",
        "Joko",
        "Lestari",
        "Putu",
        "Wulan",
    ),
}
_FAMILY = {
    "vi": ("Mẫu Một", "Thử Hai", "Ví Dụ", "Giả Tưởng", "Tưởng Tượng", "Kiểm Thử"),
    "th": ("ตัวอย่าง", "ทดสอบ", "สมมติ", "จำลอง", "ทดลอง", "ในนิทาน"),
    "id": ("Contoh", "Percobaan", "Misal", "Rekaan", "Cerita", "Uji"),
}
SENTENCES = {
    "vi": (
        "Shop ơi, mẫu này còn hàng không ạ?",
        "Dạ còn ạ, chị lấy size nào để em lên đơn 🥰",
        "Bao nhiêu tiền một hộp vậy shop?",
        "Dạ 150.000đ/hộp, mua 2 hộp được freeship ạ.\nChị cần thêm gì không ạ?",
        "Cho mình xin địa chỉ cửa hàng nhé",
        "Em gửi chị mã đơn, chị kiểm tra giúp em < 5 phút & nhắn lại nha",
        "Hàng về chưa shop ơi 😢 mình đợi lâu quá rồi",
        "Cảm ơn chị đã ủng hộ, chúc chị ngày mới vui vẻ ❤️",
        "Ship về Đà Lạt mất mấy ngày ạ?",
        'Mình muốn đổi sang màu "xanh rêu" được không?',
        "ok",
        "Số của mình là {phone} nhé shop",
        "Chị xem thêm mẫu ở https://shop.example/mau-moi?id=7&ref=chat nhé ạ",
    ),
    "th": (
        "สินค้ายังมีไหมคะ",
        "มีค่ะ รับกี่ชิ้นดีคะ 😊",
        "ราคาเท่าไหร่ครับ รวมส่งหรือยัง",
        "ราคา 250 บาท ส่งฟรีค่ะ\nโอนแล้วแจ้งสลิปได้เลยนะคะ",
        "ขอดูรูปจริงหน่อยได้ไหมคะ",
        "ส่งของวันไหนคะ รอนานแล้วนะ 😭",
        "ขอบคุณมากค่ะ 🙏✨",
        "มีสีอื่นไหม เช่น สีเขียว & สีน้ำเงิน",
        "รับ <2> ชิ้นค่ะ",
        "555",
        "ที่อยู่เดิมนะคะ",
        "เบอร์ {phone} ค่ะ",
        "ดูแบบอื่นได้ที่ https://shop.example/th ค่ะ",
    ),
    "id": (
        "Kak, apakah barangnya masih ada?",
        "Masih ada kak, mau ambil berapa? 😄",
        "Harganya berapa ya, sudah termasuk ongkir?",
        "Rp75.000 kak, beli 2 gratis ongkir.\nAda lagi yang bisa dibantu?",
        "Bisa kirim foto aslinya?",
        "Pesanan saya kok belum sampai ya 🙏",
        "Terima kasih banyak kak ❤️",
        'Kalau warna "hijau" & ukuran <XL> ada?',
        "siap",
        "Kirimnya naik kurir apa ya kak, berapa hari sampai di kota kami yang agak jauh ini?",
        "Alamatnya seperti yang kemarin ya",
        "Nomor saya {phone} kak",
        "Katalog lengkap ada di https://shop.example/katalog ya kak",
    ),
}
BOT_GREETING = {
    "vi": "Xin chào! Shop đã nhận được tin nhắn và sẽ trả lời ngay ạ 🤖",
    "th": "สวัสดีค่ะ ร้านได้รับข้อความแล้ว จะรีบตอบกลับนะคะ 🤖",
    "id": "Halo! Pesan kakak sudah kami terima, mohon ditunggu ya 🤖",
}
TAGS = (
    ("Khách VIP", "#4b5577", "#c9ccd6"),
    ("Đã chốt đơn", "#0a7c42", "#b5d8c6"),
    ("ลูกค้าใหม่", "#f28809", "#fbdcb5"),
    ("Komplain", "#c8102e", "#efb7c0"),
    ("Hỏi giá", "#2a5bd7", "#bfcdf3"),
    ("Spam 🗑", "#808080", "#d9d9d9"),
)
ATTACHMENT_KINDS = (
    "photo",
    "photo",
    "sticker",
    "video",
    "audio",
    "file",
    "template",
    "reaction",
    "replied_message",
    "address",
    "link",
    "system_message",
)


def person(language: str, rng: Random) -> str:
    """Return an invented name in a language."""
    if language == "vi":
        return f"{rng.choice(_FAMILY['vi'])} {rng.choice(_GIVEN['vi'])}"
    return f"{rng.choice(_GIVEN[language])} {rng.choice(_FAMILY[language])}"


def phone(rng: Random) -> str:
    """Return a phone number that is clearly invented."""
    return f"0900000{rng.randrange(1000):03d}"


def sentence(language: str, rng: Random) -> str:
    """Return a sentence of a customer or the shop; about one in 13 has a phone number."""
    text = rng.choice(SENTENCES[language])
    return text.format(phone=phone(rng)) if "{phone}" in text else text


def uuid(rng: Random) -> str:
    """Return a version 4 UUID from a generator (`uuid.uuid4` would differ in every run)."""
    digits = f"{rng.getrandbits(128):032x}"
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"


def ad_click(ad_id: str) -> dict[str, Any]:
    """Return the attachment of the pseudo message with the advertisement of a thread."""
    return {
        "type": "ad_click",
        "ad_id": ad_id,
        "name": "Khuyến mãi tháng này 🎉 Mua 2 tặng 1",
        "ad_click_photo_url": f"https://media.pancake.example/ads/{ad_id}.jpg",
        "click_from": "ADS",
        "post_attachments": [
            {"type": "photo", "url": f"https://media.pancake.example/ads/{ad_id}-post.jpg"}
        ],
    }


def attachment(kind: str, serial: int) -> dict[str, Any]:
    """Return an attachment of a kind, with the keys of the reference, section 8."""
    url = f"https://media.pancake.example/{kind}/{serial}"
    match kind:
        case "photo" | "sticker":
            found: dict[str, Any] = {
                "url": f"{url}.png",
                "image_data": {"width": 640, "height": 480},
            }
        case "video":
            # `url` is only the thumbnail; the video is in `video_data`.
            found = {
                "url": f"{url}.jpg",
                "mime_type": "video/mp4",
                "video_data": {"url": f"{url}.mp4", "width": 720, "height": 1280},
            }
        case "audio":
            found = {"url": f"{url}.mp3", "mime_type": "audio/mpeg"}
        case "file":
            found = {
                "id": f"file_{serial}",
                "url": f"{url}.pdf",
                "name": "báo giá.pdf",
                "mime_type": "application/pdf",
            }
        case "template":
            found = {
                "payload": {
                    "template_type": "button",
                    "text": "Xem thêm",
                    "sharable": False,
                    "elements": [],
                    "buttons": [
                        {
                            "type": "web_url",
                            "title": "Đặt hàng",
                            "url": url,
                            "webview_height_ratio": "full",
                        },
                    ],
                },
            }
        case "reaction":
            found = {"emoji": "❤️", "reaction": "love", "user_id": str(300_000_000_000_000 + serial)}
        case "replied_message":
            found = {
                "message": "Dạ còn ạ",
                "from": {"id": str(300_000_000_000_000 + serial)},
                "attachments": [{"type": "photo", "url": f"{url}.png"}],
            }
        case "address":
            found = {
                "address": "12 Đường Ví Dụ",
                "full_address": "12 Đường Ví Dụ, Phường Mẫu, Thành phố Thử",
                "province_id": "000",
                "district_id": "00000",
                "commune_id": "0000000",
                "country_code": "84",
                "post_code": None,
            }
        case "link":
            found = {"url": url, "name": "Bộ sưu tập mới ✨ xem ngay", "title": None, "link": url}
        case _:
            found = {"message": "Cuộc trò chuyện đã được gán", "title": None}
    return {"type": kind, **found}
