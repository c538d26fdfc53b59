from .page import search_page as search_page
from .tables import region_tables as region_tables
from .wording import sentences as sentences
from .words import SearchWords as SearchWords
