from .answer import Landscape as Landscape
from .answer import RegionReport as RegionReport
from .answer import analyse as analyse
from .search_page import search_page as search_page
from .search_words import SearchWords as SearchWords
from .tables import region_tables as region_tables
from .wording import sentences as sentences
